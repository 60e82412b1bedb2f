"""Weights of a LiteRT file's networks kept in fewer bits, and brought back to float32 first.

::

    weight (float16, or int8 with a scale for each output channel) ─ DEQUANTIZE ─ CONV_2D, …

XNNPACK brings them back once, when it prepares the file, and computes in float32. Without an
explicit ``DEQUANTIZE`` it would round activations to int8 on the way. Heads count as networks;
whatever else is in the file, resizes with constant matrices among it, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer

from classkinfy_export.errors import ExportError
from classkinfy_export.formats import float16
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.precision import Precision

_NETWORK = r"_(backbone|head)[/;]"
"""In the names of what a network computes, which the converter takes from modules."""
_KEPT = (
    TFLOperationName.CONV_2D,
    TFLOperationName.DEPTHWISE_CONV_2D,
    TFLOperationName.FULLY_CONNECTED,
)
_WEIGHTED = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.BATCH_MATMUL,
)


def keep(model: bytes, precision: Precision) -> bytes:
    """Keep the weights of every network of a file as a precision says.

    Args:
        model: a LiteRT file, all float.
        precision: ``fp16``, or ``weight_only_wi8_afp32``: symmetric, one scale for each output
            channel, the largest weight of which is 127.

    Returns:
        the file with the same signatures, which computes in float32.

    Raises:
        ExportError: the file has no weights of a network, or one that cannot be kept so.
    """
    weights = dict(_weights(model))
    if not weights:
        raise ExportError(
            f"no operator's name has {_NETWORK!r}: there are no weights to keep as {precision}",
            hint="leave that precision out of the recipe",
        )
    if precision == "fp16":
        for name, values in weights.items():
            float16.check(name, values)
    with quiet():
        quantizer = Quantizer(bytearray(model))
        for operation in _KEPT:
            if precision == "fp16":
                quantizer.add_weight_only_config(
                    _NETWORK, operation, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING
                )
            else:
                quantizer.add_weight_only_config(_NETWORK, operation, num_bits=8)
        result = quantizer.quantize(enable_progress_bar=False, enable_progress_report=False)
    assert result.quantized_model is not None
    kept = bytes(result.quantized_model)
    for name, _ in _weights(kept):
        raise ExportError(
            f"LiteRT cannot keep the weight {name} as {precision}",
            hint="leave that precision out of the recipe, or litert out of its formats",
        )
    return kept


def _weights(model: bytes) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Give the networks' weights that are float32: name and values."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    for graph in parsed.subgraphs:
        for operator in graph.operators:
            code = parsed.operatorCodes[operator.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) not in _WEIGHTED:
                continue
            weight = graph.tensors[operator.inputs[1]]
            names = (weight.name, graph.tensors[operator.outputs[0]].name)
            if weight.type == schema.TensorType.FLOAT32 and any(
                re.search(_NETWORK, name.decode()) for name in names
            ):
                values = _values(model, parsed.buffers[weight.buffer])
                if values is not None:
                    yield weight.name.decode(), values


def _values(model: bytes, buffer: Any) -> npt.NDArray[np.float32] | None:  # noqa: ANN401  (untyped upstream)
    """Return what a buffer of floats holds, inside the flatbuffer or behind it; None of nothing."""
    if buffer.offset > 1:
        return np.frombuffer(model, np.float32, buffer.size // 4, buffer.offset)
    return None if buffer.data is None else np.frombuffer(buffer.data, np.float32)
