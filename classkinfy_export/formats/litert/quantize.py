"""Static int8 of the network in a stage's LiteRT file; whatever else is in it stays as it is.

Convolutions, and what stands between them, get int8 weights, symmetric with one scale a channel,
and int8 activations, asymmetric with one scale a tensor, of the range that calibration took.
Resize, the last mean and head stay float, and so do all inputs and outputs. Squeeze-and-excite
branches, after their mean, and blocks of the network can be left in float too, but for their
weights.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer.quantizer import Quantizer

from classkinfy_export.formats.litert.networks import (
    CONVOLUTIONS,
    FOLLOWING,
    MEAN,
    Network,
    find,
)
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.quantization.calibration import Feed, Feeds
from classkinfy_export.quantization.ranges import Ranges, Values

_SHARE = (0.0, 255 / 256)
"""What int8 kernels give a sigmoid in, whatever was seen: steps of 1/256 from 0, by LiteRT's
quantisation specification."""


def quantize(
    model: bytes,
    feeds: Feeds,
    pixels: tuple[float, float],
    *,
    float_excitation: bool = False,
    float_blocks: Sequence[str] = (),
) -> tuple[bytes, Ranges]:
    """Quantise the network of a stage.

    Args:
        model: the stage's LiteRT file, all float.
        feeds: its inputs for each calibration photo.
        pixels: black and white, as the network's first convolution reads them.
        float_excitation: compute squeeze-and-excite branches in float.
        float_blocks: modules of the backbone to compute in float.

    Returns:
        the file with a quantised network, and the range of each activation, under
        ``signature/index of the tensor``.

    Raises:
        ExportError: there is no convolution of a network, or none outside of the blocks.
    """
    network = find(model, float_excitation=float_excitation, float_blocks=float_blocks)
    taken = feeds.ranges(_observed(model, network)).values()
    bounds = dict(zip(network.tensors, taken, strict=True)) | dict.fromkeys(network.shares, _SHARE)
    if network.pixels is not None:
        bounds[network.pixels] = pixels
    for padded, source in network.padded.items():
        # Padding adds zeros, which every range holds: the codes stay what they are.
        bounds[padded] = bounds[source]
    ranges = {f"{network.signature}/{index}": of for index, of in bounds.items()}
    named = {name: bounds[index] for index, name in network.tensors.items()}
    return _quantize(model, named, network), ranges


def _quantize(model: bytes, seen: Mapping[str, tuple[float, float]], network: Network) -> bytes:
    statistics = {
        name: {
            "min": np.full((1,) * 4, low, np.float32),
            "max": np.full((1,) * 4, high, np.float32),
        }
        for name, (low, high) in seen.items()
    }
    with quiet():
        quantizer = Quantizer(bytearray(model))
        for kind, operation in (CONVOLUTIONS | FOLLOWING | MEAN).items():
            names = [name for of, name in network.operators if of == kind]
            if names:
                quantizer.add_static_config(
                    _scope(names), operation, activation_num_bits=8, weight_num_bits=8
                )
        for operation in CONVOLUTIONS.values() if network.floats else ():
            quantizer.add_weight_only_config(_scope(network.floats), operation, num_bits=8)
        result = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    assert result.quantized_model is not None
    return bytes(result.quantized_model)


def _scope(names: Iterable[str]) -> str:
    """Return what finds operators by the names of their outputs, and no others."""
    return f"^({'|'.join(map(re.escape, names))});?$"


def _observed(model: bytes, network: Network) -> Callable[[Feed], Values]:
    """Return what gives the values of each of a network's activations, in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it needs more memory, which is what is wanted
        interpreter = Interpreter(
            model_content=model,
            num_threads=2,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
    run = interpreter.get_signature_runner(network.signature)

    def values(feed: Feed) -> Values:
        run(**feed)
        return {
            f"{network.signature}/{index}": interpreter.get_tensor(index, network.subgraph)
            for index in network.tensors
        }

    return values
