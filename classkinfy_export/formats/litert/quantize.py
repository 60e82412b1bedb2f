"""Static int8 of the networks in a LiteRT file; whatever else is in it stays as it is.

Convolutions, and what stands between them, get int8 weights, symmetric with one scale a channel,
and int8 activations, asymmetric with one scale a tensor, of the range that calibration took.
Resize, the last mean and head stay float, and so do all inputs and outputs. Squeeze-and-excite
branches, after their mean, and blocks of the network can be left in float too, but for their
weights.

A file may hold a network twice, as ``classify`` and within ``pipeline``, with one copy of its
weights. Ranges are taken once and given to both, so that both round alike.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_quantizer.quantizer import Quantizer

from classkinfy_export.errors import ExportError
from classkinfy_export.formats.litert.networks import (
    BACKBONE,
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
    feeds: Mapping[str, Feeds],
    pixels: Mapping[str, tuple[float, float]],
    *,
    float_excitation: bool = False,
    float_blocks: Sequence[str] = (),
) -> tuple[bytes, Ranges]:
    """Quantise every network of a file.

    Args:
        model: a LiteRT file, all float.
        feeds: by signature that holds a network of its own, its inputs for each calibration photo.
        pixels: likewise, black and white, as the network's first convolution reads them.
        float_excitation: compute squeeze-and-excite branches in float.
        float_blocks: modules of the backbone to compute in float.

    Returns:
        the file with quantised networks, and the range of each activation, under
        ``signature/index of the tensor in the float file``.

    Raises:
        ExportError: a signature has no convolution of a network, or none outside of the blocks, or
            ``pipeline`` holds none that was calibrated.
    """
    networks = find(model, float_excitation=float_excitation, float_blocks=float_blocks)
    seen: dict[str, tuple[float, float]] = {}
    ranges: Ranges = {}
    for signature, inputs in feeds.items():
        own = networks.get(signature)
        if own is None:
            raise ExportError(f"{signature} has no convolution under {BACKBONE!r} to quantise")
        taken = inputs.ranges(_observed(model, own)).values()
        bounds = dict(zip(own.tensors, taken, strict=True)) | dict.fromkeys(own.shares, _SHARE)
        if own.pixels is not None:
            bounds[own.pixels] = pixels[signature]
        for padded, source in own.padded.items():
            # Padding adds zeros, which every range holds: the codes stay what they are.
            bounds[padded] = bounds[source]
        for other in networks.values():
            if other is own or (other.signature not in feeds and other.kinds == own.kinds):
                seen |= dict(zip(other.tensors.values(), bounds.values(), strict=True))
                ranges |= {
                    f"{other.signature}/{index}": of
                    for index, of in zip(other.tensors, bounds.values(), strict=True)
                }
    lacking = [n.signature for n in networks.values() if not seen.keys() >= set(n.tensors.values())]
    if lacking:
        raise ExportError(
            f"{lacking[0]} holds a network that calibration did not see",
            hint="add 'staged' to forms: its stages are what calibration runs",
        )
    return _quantize(model, seen, networks.values()), ranges


def _quantize(
    model: bytes, seen: Mapping[str, tuple[float, float]], networks: Iterable[Network]
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
        for kind, operation in (CONVOLUTIONS | FOLLOWING | MEAN).items():
            names = [n for network in networks for k, n in network.operators if k == kind]
            if names:
                quantizer.add_static_config(
                    _scope(names), operation, activation_num_bits=8, weight_num_bits=8
                )
        floats = [name for network in networks for name in network.floats]
        for operation in CONVOLUTIONS.values() if floats else ():
            quantizer.add_weight_only_config(_scope(floats), operation, num_bits=8)
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
