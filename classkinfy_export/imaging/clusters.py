"""k-means with three clusters and fixed iterations, over the selected pixels."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 5
_FAR = 1e4


def three_means(lab: Tensor, selected: Tensor) -> tuple[Tensor, Tensor]:
    """Cluster colours (Lloyd, 1982), beginning at the darkest, the middle and the lightest L.

    Sums are of integers, so centres are quotients of exact numbers. A cluster that loses all its
    pixels stays where it is; a pixel as near to two centres goes to the darker start.

    Args:
        lab: float32 [3, n, p], integers; sums over p below 2**24.
        selected: float32 [n, p], 0 or 1.

    Returns:
        centres, float32 [3 clusters, 3, n], and each one's share of the pixels, [3, n]; of no
        pixels, zeros.
    """
    light, count = lab[0], torch.clamp(selected.sum(dim=1), min=1.0)
    mean = (lab * selected).sum(dim=2) / count
    low = torch.amin(torch.where(selected > 0.0, light, torch.full_like(light, _FAR)), dim=1)
    high = torch.amax(torch.where(selected > 0.0, light, torch.full_like(light, -_FAR)), dim=1)
    low, high = torch.minimum(low, mean[0]), torch.maximum(high, mean[0])  # of nothing: 0
    starts = (low, (low + high) * 0.5, high)
    centres = torch.stack([torch.stack((start, mean[1], mean[2])) for start in starts])
    sizes = torch.zeros_like(centres[:, 0])
    for _ in range(ITERATIONS):
        difference = lab - centres[..., None]
        square = difference * difference
        first, second, third = torch.unbind(square[:, 0] + square[:, 1] + square[:, 2])
        in_first = selected * ((first <= second) & (first <= third)).to(light.dtype)
        in_third = selected * ((third < second) & (third < first)).to(light.dtype)
        members = torch.stack((in_first, selected - in_first - in_third, in_third))
        sizes = members.sum(dim=2)
        sums = (lab * members[:, None]).sum(dim=3)
        held = sizes[:, None]
        centres = torch.where(held > 0.0, sums / torch.clamp(held, min=1.0), centres)
    return centres, sizes / count
