"""Otsu's threshold (1979) on integer levels, exact."""

from __future__ import annotations

import torch
from torch import Tensor

_DIGIT = 16


def histogram(levels: Tensor) -> Tensor:
    """Count levels: float32 [n, p], integers 0..255, p < 2**24, to float32 [n, 256].

    A matrix product of one-hot digits: it holds zeros and ones, so every sum is exact.
    """
    high = torch.floor(levels * (1.0 / _DIGIT))
    digits = torch.arange(_DIGIT, dtype=torch.float32)
    of_high = (high[:, None] == digits[:, None]).to(torch.float32)
    of_low = ((levels - high * _DIGIT)[:, None] == digits[:, None]).to(torch.float32)
    return torch.matmul(of_high, of_low.transpose(1, 2)).reshape(-1, _DIGIT * _DIGIT)


def otsu(counts: Tensor) -> Tensor:
    """Return the level that best parts a histogram: the highest one of the lower class.

    Args:
        counts: float32 [n, 256], integers; sums of count * level below 2**24.

    Returns:
        float32 [n, 1], the first level of the largest variance between classes.
    """
    level = torch.arange(256, dtype=torch.float32)
    upto = (level[:, None] <= level).to(torch.float32)
    below, mass = torch.matmul(counts, upto), torch.matmul(counts * level, upto)
    total, whole = below[:, -1:], mass[:, -1:]
    above = total - below
    gap = mass / torch.clamp(below, min=1.0) - (whole - mass) / torch.clamp(above, min=1.0)
    between = below * above * gap * gap
    best = torch.amax(between, dim=1, keepdim=True)
    return torch.amin(torch.where(between == best, level, torch.full_like(level, 255.0)), 1, True)
