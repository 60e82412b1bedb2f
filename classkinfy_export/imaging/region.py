"""Regions in a mask, by products with matrices of zeros and ones: exact, and few operations."""

from __future__ import annotations

import torch
from torch import Tensor


def boxed(levels: Tensor, radius: int) -> Tensor:
    """Sum over a square of side 2 * radius + 1, 0 beyond the border.

    Args:
        levels: float32 [n, h, w], integers; sums below 2**24.
        radius: pixels.
    """
    height, width = levels.shape[1:]
    return torch.matmul(torch.matmul(_band(height, radius), levels), _band(width, radius))


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Dilate 0 or 1, float32 [n, h, w], by a square of side 2 * radius + 1."""
    return torch.clamp(boxed(mask, radius), max=1.0)


def eroded(mask: Tensor, radius: int) -> Tensor:
    """Erode 0 or 1, float32 [n, h, w], by such a square; beyond the border all is mask."""
    return 1.0 - dilated(1.0 - mask, radius)


def grown(seed: Tensor, mask: Tensor, steps: int, stride: int) -> Tensor:
    """Grow a seed inside a mask, diagonals included.

    In a static graph a region is followed a fixed way, so a winding one may be cut short. A stride
    of more than 1 also leaps gaps that are narrower than it.

    Args:
        seed: float32 [n, h, w], 0 or 1.
        mask: likewise; where to grow.
        steps: how often.
        stride: how far each time, pixels.

    Returns:
        float32 [n, h, w], 0 or 1.
    """
    region = torch.minimum(seed, mask)
    for _ in range(steps):
        region = torch.minimum(boxed(region, stride), mask)
    return region


def _band(size: int, radius: int) -> Tensor:
    """Return 1 where row and column differ by at most the radius: float32 [size, size]."""
    index = torch.arange(size)
    return (torch.abs(index[:, None] - index) <= radius).to(torch.float32)
