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

from typing import Literal

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


def float_excitation(precision: Precision) -> bool:
    """Whether squeeze-and-excite branches are computed in float, beside int8 convolutions."""
    return "_se_fp32" in precision
