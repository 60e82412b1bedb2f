"""Ranges of activations: taken from what photos make of them, written beside the model.

A range has 255 steps. One from the least to the largest value that any photo gave spends most of
them on values that hardly occur; one that is too narrow cuts what does. Of ranges whose ends are
shares of the extremes that one is taken that codes the values seen with the least squared error,
which others call MSE; but of each photo over the root of its own power. One photo in a hundred can
have activations many times as large as the others have, and weighs less so than by its squares.
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
_BINS = 32_768
_CODES = np.arange(256)
_COUNTED = 65_536
"""Of a tensor's values, in each photo, about so many are counted: from a third to twice of it."""
_NOTHING = 1e-12
"""Of the square of the extreme: a photo of less power is all zeros in any range."""
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
    counts = [_counts(half(), whole) for half in halves]
    ranges, shifts = {}, {}
    for tensor, bounds in whole.items():
        ranges[tensor] = _least_error(np.sum([of[tensor] for of in counts], axis=0), bounds, bounds)
        if len(halves) > 1:
            own = [
                _least_error(count[tensor], bounds, of[tensor])
                for count, of in zip(counts, ends, strict=True)
            ]
            lesser, larger = sorted(high - low for low, high in own)
            shifts[tensor] = 1.0 - lesser / larger if larger else 0.0
    return ranges, shifts


def _least_error(counts: Floats, counted: Range, extremes: Range) -> Range:
    """Return the range that codes values with the least squared error.

    Args:
        counts: float64 [bins], weighed, of values in bins of one width.
        counted: where the bins begin and end.
        extremes: of the values, with 0 between them: of each a share from 1 down to 0.05 is tried,
            and then what is near the best.
    """
    low, high = extremes
    if low == high or not counts.any():
        return low, high
    errors = _Errors(counts, counted)
    least, most = 1.0, 1.0
    for near in (_SHARES, _NEAR, _NEAR**0.2):
        lows = np.minimum(least * near, 1.0) if low < 0.0 else np.ones(1)
        highs = np.minimum(most * near, 1.0) if high > 0.0 else np.ones(1)
        grid = np.array([(one, other) for one in lows for other in highs])
        best = np.argmin(errors.of(low * grid[:, 0], high * grid[:, 1]))
        least, most = map(float, grid[best])
    return low * least, high * most


class _Errors:
    """Squared errors of int8, asymmetric with 0 among the codes, of values counted in bins."""

    def __init__(self, counts: Floats, counted: Range) -> None:
        self._begin, self._width = counted[0], (counted[1] - counted[0]) / len(counts)
        centres = self._begin + (np.arange(len(counts)) + 0.5) * self._width
        powers = np.stack([counts, counts * centres, counts * centres**2])
        self._before = np.pad(np.cumsum(powers, axis=1), ((0, 0), (1, 0)))

    def of(self, lows: Floats, highs: Floats) -> Floats:
        """Return the errors of ranges, float64 [ranges].

        Args:
            lows: float64 [ranges], at most 0.
            highs: likewise, at least 0; no range is empty.
        """
        steps = ((highs - lows) / _CODES[-1])[:, None]
        coded = (_CODES - np.rint(-lows[:, None] / steps)) * steps
        bins = self._before.shape[1] - 1
        ends = np.zeros((len(lows), len(_CODES) + 1), np.intp)
        ends[:, -1] = bins
        between = (coded[:, 1:] - steps / 2.0 - self._begin) / self._width
        ends[:, 1:-1] = np.clip(np.rint(between), 0, bins)
        count, total, squares = np.diff(self._before[:, ends], axis=2)
        errors: Floats = (squares - 2.0 * coded * total + coded**2 * count).sum(axis=1)
        return errors


def _union(bounds: Sequence[Range]) -> Range:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


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


def _counts(photos: Iterable[Values], ends: Mapping[str, Range]) -> dict[str, Floats]:
    """Count each tensor's values in bins between its ends, a photo's over the root of its power."""
    counts = {tensor: np.zeros(_BINS) for tensor in ends}
    for values in photos:
        for tensor, of in values.items():
            low, high = ends[tensor]
            some = of.reshape(-1)[:: _stride(of.size)]
            power = float(np.square(some, dtype=np.float64).sum())
            if power > _NOTHING * some.size * max(-low, high) ** 2:
                bins = ((some - low) * (_BINS / (high - low))).astype(np.intp)
                found = np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
                counts[tensor] += found / math.sqrt(power)
    return counts


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
