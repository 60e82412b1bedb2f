"""Ranges of activations: what calibration saw, written beside the model that was made with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

Ranges = dict[str, tuple[float, float]]
"""The least and the largest value of each quantised activation, by its tensor's name, in the order
in which they are computed."""
Shifts = dict[str, float]
"""How far each activation's scales are apart in two halves of the photos, as a share of the larger:
0 where they are the same, 1 where a half saw nothing but zeros."""

SHIFT_LIMIT = 0.2
"""A scale that moves further depends on the photos too much: there are too few of them."""


def merge(halves: Sequence[Ranges]) -> tuple[Ranges, Shifts]:
    """Merge ranges of the same activations, seen on disjoint sets of photos, and compare them.

    A scale is the width of a range with 0 in it, over 255; so scales compare as widths do.

    Args:
        halves: one or two, of the same activations.

    Returns:
        the union of each activation's ranges, and its shift; no shifts of one alone.
    """
    ranges, shifts = {}, {}
    for tensor in halves[0]:
        seen = [half[tensor] for half in halves]
        ranges[tensor] = (min(low for low, _ in seen), max(high for _, high in seen))
        lesser, larger = (
            f(max(high, 0.0) - min(low, 0.0) for low, high in seen) for f in (min, max)
        )
        if len(halves) > 1:
            shifts[tensor] = 1.0 - lesser / larger if larger else 0.0
    return ranges, shifts


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
