"""Static int8 of the networks in a LiteRT file; whatever else is in it stays as it is.

Convolutions, and what stands between them, get int8 weights, symmetric with one scale a channel,
and int8 activations, asymmetric with one scale a tensor, from the least to the largest value that
calibration saw. Resize, mean and head stay float, and so do all inputs and outputs. Squeeze-and-
excite branches can be left in float too, but for their weights.

A file may hold a network twice, as ``classify`` and within ``pipeline``, with one copy of its
weights. Ranges are taken once and given to both, so that both round alike.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer

from classkinfy_export.errors import ExportError
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.quantization.calibration import Feed, Feeds
from classkinfy_export.quantization.ranges import Ranges

_BACKBONE = "_backbone/"
"""In the names of what a network computes, which the converter takes from modules."""
_EXCITATION = re.compile(r"_se[;/]")
"""Likewise of a squeeze-and-excite branch, its gate included."""
_OPERATIONS = {
    schema.BuiltinOperator.CONV_2D: TFLOperationName.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: TFLOperationName.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.ADD: TFLOperationName.ADD,
    schema.BuiltinOperator.MUL: TFLOperationName.MUL,
    schema.BuiltinOperator.LOGISTIC: TFLOperationName.LOGISTIC,
}
_SHARE = (0.0, 255 / 256)
"""What int8 kernels give a sigmoid in, whatever was seen: steps of 1/256 from 0, by LiteRT's
quantisation specification."""


class _Network(NamedTuple):
    """A signature's network: its quantised operators' activations, in the order of operators."""

    signature: str
    subgraph: int
    tensors: list[int]
    """Indices in the subgraph."""
    names: list[str]
    kinds: list[int]
    shares: list[int]
    """Of ``tensors``, by position: what a sigmoid gives."""


def quantize(
    model: bytes,
    feeds: Mapping[str, Feeds],
    pixels: Mapping[str, tuple[float, float]],
    *,
    float_excitation: bool = False,
) -> tuple[bytes, Ranges]:
    """Quantise every network of a file.

    Args:
        model: a LiteRT file, all float.
        feeds: by signature that holds a network of its own, its inputs for each calibration photo.
        pixels: likewise, black and white, as the network's first convolution reads them.
        float_excitation: compute squeeze-and-excite branches in float.

    Returns:
        the file with quantised networks, and what calibration saw of each activation, under
        ``signature/index of the tensor in the float file``.

    Raises:
        ExportError: a signature has no convolution of a network, or ``pipeline`` holds none that
            was calibrated.
    """
    networks = _networks(model, float_excitation=float_excitation)
    seen: dict[str, tuple[float, float]] = {}
    ranges: Ranges = {}
    for signature, inputs in feeds.items():
        own = networks.get(signature)
        if own is None:
            raise ExportError(f"{signature} has no operator under {_BACKBONE!r} to quantise")
        found = list(inputs.ranges(partial(_calibrate, model, own)).values())
        found[0] = pixels[signature]
        for position in own.shares:
            found[position] = _SHARE
        for other in networks.values():
            if other is own or (other.signature not in feeds and other.kinds == own.kinds):
                seen |= dict(zip(other.names, found, strict=True))
                ranges |= {
                    f"{other.signature}/{index}": bounds
                    for index, bounds in zip(other.tensors, found, strict=True)
                }
    lacking = [n.signature for n in networks.values() if not seen.keys() >= set(n.names)]
    if lacking:
        raise ExportError(
            f"{lacking[0]} holds a network that calibration did not see",
            hint="add 'staged' to forms: its stages are what calibration runs",
        )
    return _quantize(model, seen, float_excitation=float_excitation), ranges


def _quantize(
    model: bytes, seen: Mapping[str, tuple[float, float]], *, float_excitation: bool
) -> bytes:
    statistics = {
        name: {
            "min": np.full((1,) * 4, low, np.float32),
            "max": np.full((1,) * 4, high, np.float32),
        }
        for name, (low, high) in seen.items()
    }
    with quiet():
        quantizer = Quantizer(bytearray(model))
        for operation in _OPERATIONS.values():
            quantizer.add_static_config(
                re.escape(_BACKBONE), operation, activation_num_bits=8, weight_num_bits=8
            )
        if float_excitation:
            scope = _EXCITATION.pattern
            quantizer.update_quantization_recipe(
                scope, TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
            )
            quantizer.add_weight_only_config(scope, TFLOperationName.CONV_2D, 8)
        result = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    assert result.quantized_model is not None
    return bytes(result.quantized_model)


def _networks(model: bytes, *, float_excitation: bool) -> dict[str, _Network]:
    """Return the networks by signature."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    networks = {}
    for signature in parsed.signatureDefs:
        graph = parsed.subgraphs[signature.subgraphIndex]
        tensors: dict[int, None] = {}
        kinds, shares = [], []
        for operator in graph.operators:
            code = parsed.operatorCodes[operator.opcodeIndex]
            kind = max(code.builtinCode, code.deprecatedBuiltinCode)
            name = _name(graph, operator.outputs[0])
            apart = float_excitation and bool(_EXCITATION.search(name))
            if kind in _OPERATIONS and _BACKBONE in name and not apart:
                kinds.append(kind)
                if kind == schema.BuiltinOperator.LOGISTIC:
                    shares.append(int(operator.outputs[0]))
                read = (i for i in operator.inputs if i >= 0 and not _constant(parsed, graph, i))
                tensors |= dict.fromkeys((*(int(i) for i in read), int(operator.outputs[0])))
        if kinds:
            key = signature.signatureKey.decode()
            names = [_name(graph, index) for index in tensors]
            places = [list(tensors).index(tensor) for tensor in shares]
            networks[key] = _Network(
                key, int(signature.subgraphIndex), list(tensors), names, kinds, places
            )
    return networks


def _name(graph: Any, index: int) -> str:  # noqa: ANN401  (untyped upstream)
    name: str = graph.tensors[index].name.decode()
    return name


def _constant(model: Any, graph: Any, index: int) -> bool:  # noqa: ANN401
    buffer = model.buffers[graph.tensors[index].buffer]
    return buffer.data is not None or bool(buffer.size)


def _calibrate(model: bytes, network: _Network, feeds: Iterable[Feed]) -> Ranges:
    """Return the least and largest value of each of a network's activations, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it needs more memory, which is what is wanted
        interpreter = Interpreter(
            model_content=model,
            num_threads=2,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
    run = interpreter.get_signature_runner(network.signature)
    least = np.full(len(network.tensors), np.inf)
    largest = np.full(len(network.tensors), -np.inf)
    for feed in feeds:
        run(**feed)
        values = [interpreter.get_tensor(index, network.subgraph) for index in network.tensors]
        least = np.minimum(least, [value.min() for value in values])
        largest = np.maximum(largest, [value.max() for value in values])
    return {
        f"{network.signature}/{index}": (float(low), float(high))
        for index, low, high in zip(network.tensors, least, largest, strict=True)
    }
