"""Fill masked pixels from their surroundings: a pull-push pyramid in integers.

Pull: each coarser level holds the rounded mean of the known pixels of a 2x2 block. Push: from
the coarsest level down, unknown pixels take the bilinear interpolation of the level above; in the
image itself, where hair is a few pixels wide and interpolation would cost a quarter of the whole,
they take the pixel above. All values are integers 0..255 and the interpolation weights are
sixteenths, so the result is the same byte in every runtime (a float pyramid is not). After Gortler
et al., "The Lumigraph", 1996.

The colour planes lead, [c, n, h, w], and masks are levels, 0 or 255, in a plane of their own: a
pixel is chosen with minimum and maximum, which runtimes vectorise over bytes and floats alike and
broadcast over a leading axis for nothing. ONNX Runtime's ``Where`` or LiteRT's broadcasting along
the last axis take longer than all the rest.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from classkinfy_export.imaging import rows


def pull_push(rgb: Tensor, hole: Tensor, levels: int = 5) -> Tensor:
    """Replace the pixels where ``hole`` is 1.

    Args:
        rgb: uint8 or float32 [c, n, h, w], integers 0..255.
        hole: float32 [n, 1, h, w], 1 where a pixel is to be filled, 0 where it is kept.
        levels: halvings, at least one; a hole wider than 2**levels pixels takes the mean of the
            known image.

    Returns:
        as ``rgb``: its dtype and shape, integers 0..255, equal to it where ``hole`` is 0.
    """
    hole = hole.reshape(1, *rgb.shape[1:])
    known = 1.0 - hole
    by_rows = rgb.is_floating_point()
    kept = torch.minimum(rgb, (known * 255.0).to(rgb.dtype))
    stack = [_pull(kept.to(known.dtype), known, by_rows)]
    for _ in range(levels - 1):
        stack.append(_pull(*stack[-1], by_rows))
    values, present = stack.pop()
    filled = values + _mean(values, present) * (1.0 - present)
    while stack:
        values, present = stack.pop()
        # Half up: the interpolation of integers plus a half, rounded down.
        pushed = torch.floor(_interpolate(filled + 0.5, values.shape[-2:], by_rows))
        filled = values + pushed * (1.0 - present)
    pushed = _repeat(filled.to(rgb.dtype), rgb.shape[-2:], by_rows)
    return torch.maximum(kept, torch.minimum(pushed, (hole * 255.0).to(rgb.dtype)))


def _pull(values: Tensor, known: Tensor, by_rows: bool) -> tuple[Tensor, Tensor]:
    """Halve both, with zeros as values where nothing is known."""
    quarters = _halve(known, by_rows)
    # Both are exact quarters. The quotient's rounding cannot carry it over a half: of integers
    # up to 1020 and 4, it is a half exactly or at least a sixth away.
    mean = torch.floor(_halve(values, by_rows) / torch.clamp(quarters, min=0.25) + 0.5)
    return mean, torch.clamp(quarters * 4.0, max=1.0)


def _halve(image: Tensor, by_rows: bool) -> Tensor:
    """Average 2x2 blocks; beyond the last row or column there are zeros."""
    height, width = image.shape[-2:]
    if height % 2 or width % 2:
        image = F.pad(image, (0, width % 2, 0, height % 2))
    if not by_rows:
        return F.avg_pool2d(image, 2)
    pool = partial(F.avg_pool2d, kernel_size=(2, 1))
    return rows.along_both(image, partial(rows.as_channels, operation=pool))


def _interpolate(coarse: Tensor, size: torch.Size, by_rows: bool) -> Tensor:
    """Double both axes, and cut to ``size``."""
    double = partial(F.interpolate, mode="bilinear", align_corners=False)
    if not by_rows:
        return double(coarse, scale_factor=2.0)[..., : size[0], : size[1]]
    double = partial(rows.as_channels, operation=partial(double, scale_factor=(2.0, 1.0)))
    return rows.along_both(coarse, double)[..., : size[0], : size[1]]


def _repeat(coarse: Tensor, size: torch.Size, by_rows: bool) -> Tensor:
    """Double both axes by repetition, and cut to ``size``."""
    if not by_rows:
        return F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., : size[0], : size[1]]
    return rows.along_both(coarse, rows.repeated)[..., : size[0], : size[1]]


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the rounded mean of what is known, 0 where nothing is."""
    total = torch.sum(values, dim=(-2, -1), keepdim=True)
    count = torch.sum(known, dim=(-2, -1), keepdim=True)
    return torch.floor((total * 2.0 + count) / torch.clamp(count * 2.0, min=1.0))
