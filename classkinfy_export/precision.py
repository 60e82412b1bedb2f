"""Precisions: what numbers a model file keeps its networks in, and what it computes them in.

A name says all of it::

    fp32                        float weights, float activations
    fp16                        weights kept as halves, computed in float
    weight_only_wi8_afp32       weights kept as int8, computed in float
    static_wi8_ai8              weights int8, activations int8 with ranges from calibration
    static_wi8_ai8_se_fp32      the same, squeeze-and-excite branches computed in float

``w`` is for weights, ``a`` for activations, as in ai-edge-quantizer's recipes; ``se_fp32`` names a
part of the network, and what it is computed in. Its weights are kept as int8 all the same.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator

Precision = Literal[
    "fp32",
    "fp16",
    "weight_only_wi8_afp32",
    "static_wi8_ai8",
    "static_wi8_ai8_se_fp32",
]


def calibrated(precision: Precision) -> bool:
    """Whether activations are quantised, so that their ranges must be seen on photos."""
    return precision.startswith("static_")


def rounded_by_photos(precision: Precision) -> bool:
    """Whether weights are int8, which photos tell how to round, where there are any."""
    return "_wi8" in precision


def float_excitation(precision: Precision) -> bool:
    """Whether squeeze-and-excite branches are computed in float, beside int8 convolutions."""
    return "_se_fp32" in precision


_REFUSED = (
    (
        r"dynamic",
        "ranges taken anew on every image are slower than float everywhere on a CPU (Lite0 takes "
        "20.8 ms in LiteRT, 9.1 in float; B3 79 and 51 to 60), and collapse networks with swish "
        "and squeeze-and-excite; take static_wi8_ai8, or weight_only_wi8_afp32 without photos",
    ),
    (
        r".*ai16",
        "16-bit activations have no fast kernels on a CPU (Lite0 takes 276 ms in LiteRT, 9.6 in "
        "float; B3 1,420 and 51 to 60); take static_wi8_ai8",
    ),
    (
        r".*(ws8_as8|s8_?s8)",
        "signed activations have no fast instruction on x86 (B3 takes 114 ms in ONNX Runtime, 51 "
        "in float, 41 with unsigned ones) and are no more exact; take static_wi8_ai8, whose "
        "activations have the sign that each format's kernels are fast with",
    ),
)


def _offered(name: object) -> object:
    """Refuse what is known to be bad; what is no precision at all is pydantic's to refuse."""
    if isinstance(name, str):
        for known, reason in _REFUSED:
            if re.match(known, name):
                raise ValueError(f"{name} is not offered: {reason}")
    return name


Offered = Annotated[Precision, BeforeValidator(_offered)]
"""A precision that a recipe asks for: of one that other tools offer it is said why not."""
