"""Regions in a mask, by shifts along rows and columns: whole numbers, cheap in every runtime."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_Join = Callable[[Tensor, Tensor], Tensor]


def boxed(levels: Tensor, radius: int) -> Tensor:
    """Sum over a square of side 2 * radius + 1: float32 [n, h, w], 0 beyond the border."""
    return _slid(levels, radius, torch.add)


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Dilate 0 or 1, float32 [n, h, w], by a square of side 2 * radius + 1."""
    return _slid(mask, radius, torch.maximum)


def eroded(mask: Tensor, radius: int) -> Tensor:
    """Erode 0 or 1, float32 [n, h, w], by such a square; beyond the border all is mask."""
    return 1.0 - dilated(1.0 - mask, radius)


def grown(seed: Tensor, mask: Tensor, steps: int) -> Tensor:
    """Grow a seed inside a mask by one pixel a step, diagonals included.

    In a static graph a region is followed a fixed way, so a winding one may be cut short.

    Args:
        seed: float32 [n, h, w], 0 or 1.
        mask: likewise; where to grow.
        steps: the farthest to go, pixels.

    Returns:
        float32 [n, h, w], 0 or 1.
    """
    region = torch.minimum(seed, mask)
    for _ in range(steps):
        region = torch.minimum(dilated(region, 1), mask)
    return region


def _slid(image: Tensor, radius: int, join: _Join) -> Tensor:
    """Join each pixel with those around it, row by row and then column by column."""
    height, width = image.shape[1:]
    padded = F.pad(image, (radius, radius, radius, radius))
    rows = padded[:, :, :width]
    for shift in range(1, 2 * radius + 1):
        rows = join(rows, padded[:, :, shift : shift + width])
    joined = rows[:, :height]
    for shift in range(1, 2 * radius + 1):
        joined = join(joined, rows[:, shift : shift + height])
    return joined
