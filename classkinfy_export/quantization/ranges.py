"""Ranges of activations: what calibration saw, written beside the model that was made with it."""

from __future__ import annotations

import json
from pathlib import Path

Ranges = dict[str, tuple[float, float]]
"""The least and the largest value of each quantised activation, by its tensor's name, in the order
in which they are computed."""


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
