"""Fill masked pixels from their surroundings: a pull-push pyramid in integers.

Pull: each coarser level holds the rounded mean of the known pixels of a 2x2 block. Push: from
the coarsest level down, unknown pixels take the bilinear interpolation of the level above. All
values are integers 0..255 and the interpolation weights are sixteenths, so the result is the same
byte in every runtime (a float pyramid is not). After Gortler et al., "The Lumigraph", 1996.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pull_push(rgb: Tensor, known: Tensor, levels: int = 5) -> Tensor:
    """Replace the pixels where ``known`` is 0.

    Args:
        rgb: float32 [n, c, h, w], integers 0..255.
        known: float32 [n, 1, h, w], 1 where a pixel is kept, 0 where it is to be filled.
        levels: halvings; a hole wider than 2**levels pixels takes the mean of the known image.

    Returns:
        float32 [n, c, h, w], integers 0..255; equal to ``rgb`` where ``known`` is 1.
    """
    stack = [(rgb, known)]
    for _ in range(levels):
        stack.append(_pull(*stack[-1]))
    values, present = stack.pop()
    filled = torch.where(present > 0, values, _mean(values, present))
    while stack:
        values, present = stack.pop()
        filled = torch.where(present > 0, values, _push(filled, values.shape[-2:]))
    return filled


def _pull(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    height, width = values.shape[-2:]
    if height % 2 or width % 2:
        values = F.pad(values, (0, width % 2, 0, height % 2))
        known = F.pad(known, (0, width % 2, 0, height % 2))
    total = F.avg_pool2d(values * known, 2) * 4.0
    count = F.avg_pool2d(known, 2) * 4.0
    return _rounded_ratio(total, count), torch.clamp(count, max=1.0)


def _push(coarse: Tensor, size: torch.Size) -> Tensor:
    fine = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.floor(fine[..., : size[0], : size[1]] + 0.5)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    total = torch.sum(values * known, dim=(-2, -1), keepdim=True)
    count = torch.sum(known, dim=(-2, -1), keepdim=True)
    return _rounded_ratio(total, count)


def _rounded_ratio(total: Tensor, count: Tensor) -> Tensor:
    """``floor(total / count + 1/2)`` of integers, 0 where count is 0."""
    return torch.floor((total * 2.0 + count) / torch.clamp(count * 2.0, min=1.0))
