"""Ranges of activations: taken from what photos make of them, written beside the model.

A range has 255 steps. One from the least to the largest value that any photo gave spends most of
them on values that hardly occur; one that is too narrow cuts what does. Of ranges whose ends are
shares of the extremes that one is taken that codes the values seen with the least squared error,
which others call MSE; but of each photo over the root of its own power. One photo in a hundred can
have activations twenty times as large as the others have, and would set the range for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classkinfy_export.errors import ExportError

Range = tuple[float, float]
Ranges = dict[str, Range]
"""The range of each quantised activation, with 0 in it, by its tensor's name, in the order in which
they are computed."""
Shifts = dict[str, float]
"""How far each activation's scales are apart in two halves of the photos, as a share of the larger:
0 where they are the same, 1 where a half saw nothing but zeros."""
Values = Mapping[str, npt.NDArray[np.float32]]
"""What one photo made of each activation, by its tensor's name."""
Floats = npt.NDArray[np.float64]

SHIFT_LIMIT = 0.2
"""A scale that moves further depends on the photos too much: there are too few of them."""
_BINS = 8192
_STEPS = 255
_COUNTED = 200_000
"""Of a tensor's values, in each photo, about so many are counted."""
_SHARES = np.geomspace(1.0, 0.05, 12)
"""Of an extreme: what is tried as the end of a range."""
_NEAR = _SHARES[1] ** np.linspace(-0.8, 0.8, 9)
"""Of the best of them: what is tried then, and once more, five times as finely."""


def take(halves: Sequence[Callable[[], Iterable[Values]]]) -> tuple[Ranges, Shifts]:
    """Take the ranges of activations, and compare those of disjoint halves of the photos.

    Args:
        halves: one or two; each gives the values of its photos, and is asked twice.

    Returns:
        the ranges over all photos; and how far scales are apart, of two halves.

    Raises:
        ExportError: a value is not finite.
    """
    ends = [_extremes(half()) for half in halves]
    whole = {t: _union([of[t] for of in ends]) for t in ends[0]}
    moments = [_moments(half(), whole) for half in halves]
    ranges, shifts = {}, {}
    for tensor, bounds in whole.items():
        ranges[tensor] = least_error(np.sum([of[tensor] for of in moments], axis=0), bounds)
        if len(halves) > 1:
            own = [
                least_error(moment[tensor], of[tensor])
                for moment, of in zip(moments, ends, strict=True)
            ]
            lesser, larger = sorted(high - low for low, high in own)
            shifts[tensor] = 1.0 - lesser / larger if larger else 0.0
    return ranges, shifts


def least_error(moments: Floats, extremes: Range) -> Range:
    """Return the range that codes values with the least squared error.

    Args:
        moments: [3, bins], of the values in each bin the weight, the sum and the sum of squares.
        extremes: of the values, with 0 between them: of each a share from 1 down to 0.05 is tried,
            and then what is near the best.
    """
    low, high = extremes
    used = moments[:, moments[0] > 0.0]
    if low == high or not used.size:
        return low, high
    best, found = np.inf, (1.0, 1.0)
    for near in (_SHARES, _NEAR, _NEAR**0.2):
        around = found
        for least in around[0] * near if low < 0.0 else (1.0,):
            for most in around[1] * near if high > 0.0 else (1.0,):
                if max(least, most) <= 1.0:
                    error = _error(used, low * least, high * most)
                    if error < best:
                        best, found = error, (float(least), float(most))
    return low * found[0], high * found[1]


def _union(bounds: Sequence[Range]) -> Range:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _error(moments: Floats, low: float, high: float) -> float:
    """Return the squared error of int8, asymmetric, 0 among the codes; a bin has one code."""
    weights, sums, squares = moments
    step = (high - low) / _STEPS
    zero = round(-low / step)
    codes = np.clip(np.rint(sums / weights / step) + zero, 0, _STEPS)
    coded = (codes - zero) * step
    return float((squares - 2.0 * coded * sums + coded**2 * weights).sum())


def _extremes(photos: Iterable[Values]) -> dict[str, Range]:
    """Return the least and the largest value of each tensor, with 0 between them."""
    ends: dict[str, Range] = {}
    for values in photos:
        for tensor, of in values.items():
            low, high = float(of.min()), float(of.max())
            if not math.isfinite(high - low):
                raise ExportError(
                    f"{tensor} is NaN or infinite on a calibration photo",
                    hint="the training diverged; export an earlier checkpoint",
                )
            ends[tensor] = _union([ends.get(tensor, (0.0, 0.0)), (low, high)])
    return ends


def _moments(photos: Iterable[Values], ends: Mapping[str, Range]) -> dict[str, Floats]:
    """Return each tensor's values in bins: weight, sum and sum of squares, [3, bins].

    A photo's weight is one over the root of its power; what is all zeros is coded by any range.
    """
    moments = {tensor: np.zeros((3, _BINS)) for tensor in ends}
    for values in photos:
        for tensor, of in values.items():
            low, high = ends[tensor]
            some = of.reshape(-1)[:: _stride(of.size)].astype(np.float64)
            power = float(some @ some)
            if power > 0.0:
                bins = ((some - low) * (_BINS / (high - low))).astype(np.intp)
                np.minimum(bins, _BINS - 1, out=bins)
                for row, weight in zip(moments[tensor], (None, some, some**2), strict=True):
                    row += np.bincount(bins, weight, _BINS) / math.sqrt(power)
    return moments


def _stride(size: int) -> int:
    """Return how far apart values are counted: through all channels and columns, in any layout."""
    stride = max(1, size // _COUNTED)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


def write(models: Path, name: str, ranges: Ranges) -> str:
    """Write the ranges of a model.

    Args:
        models: the folder of the models of one format, ``models/<format>`` of a bundle.
        name: the model's.
        ranges: of its quantised activations.

    Returns:
        the file's path in the bundle.
    """
    content = {tensor: list(bounds) for tensor, bounds in ranges.items()}
    path = models / f"{name}.ranges.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return f"{models.parent.name}/{models.name}/{path.name}"
