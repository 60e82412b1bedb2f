"""Where the lesion is: what differs in colour from the skin around it.

ΔE76 from the skin, Otsu's threshold, and the region that reaches into the centre of the frame.
All of it works on a reduced image, and all of it is exact: the same mask on every runtime.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from classkinfy_export.imaging import colour
from classkinfy_export.imaging.otsu import histogram, otsu
from classkinfy_export.imaging.region import boxed, dilated, eroded, grown

STEPS = 4.0
"""Steps of the integers that Lab is rounded to, for each unit."""

_DARK = 25.0 * STEPS
"""Of lightness: what a dermoscope's corners stay below."""
_LIGHTER = 3.0 * STEPS
_LIGHTER_WEIGHT = 0.25
_RIM = 0.1
_CENTRE = 0.16
_REACH = 4 / 15
"""How far a region is followed, share of the longer side."""
_STRIDE = 2
"""At once, pixels: a gap of one is leapt."""
_THRESHOLD_SHARE = 0.85
"""Of Otsu's threshold: experts draw outlines more generous than it."""


class Lesion(NamedTuple):
    """A segmented image of n lesions."""

    mask: Tensor
    """float32 [n, h, w], 0 or 1."""
    skin: Tensor
    """The mean colour of the skin around, float32 [3, n, 1, 1], steps of Lab."""
    distance: Tensor
    """ΔE76 from it, float32 [n, h, w], steps."""
    threshold: Tensor
    """Otsu's, float32 [n, 1], steps."""


def reduced(image: Tensor, scale: int) -> Tensor:
    """Average squares of pixels, rounded half up; a rest at the edge is left out.

    Args:
        image: uint8 [n, h, w, 3].
        scale: side of the squares, a power of two.

    Returns:
        float32 [3, n, h // scale, w // scale], integers 0..255.
    """
    n, height, width = image.shape[0], image.shape[1] // scale, image.shape[2] // scale
    whole = image[:, : height * scale, : width * scale].reshape(n * height, scale, -1)
    columns = whole.to(torch.float32).sum(dim=1).reshape(-1, scale * 3)
    # Pixels in a row are summed by a product with zeros and ones: it takes the colours apart too.
    apart = torch.tensor([[float(i % 3 == c) for c in range(3)] for i in range(scale * 3)])
    sums = torch.matmul(columns, apart).t().reshape(3, n, height, width)
    return torch.floor(sums * (1.0 / scale**2) + 0.5)


def segment(lab: Tensor) -> Lesion:
    """Find the lesion.

    Skin is first the lighter part of the frame's rim, or of the whole frame where the rim is dark,
    then all that the first mask leaves out, if it leaves out any.

    Args:
        lab: float32 [3, n, h, w], integers, ``STEPS`` a unit.
    """
    height, width = lab.shape[-2:]
    field = _field(lab[0])
    bright = (lab[0] > _DARK).to(torch.float32)
    lit = bright * field  # without the half dark pixels of the field's border
    edge = lit * rim(height, width)
    edge = torch.where(_count(edge)[:, None, None] > 0.0, edge, lit)
    skin = _mean(lab, edge * (lab[0] >= _mean(lab, edge)[0]).to(torch.float32))
    first, _, _ = _parted(lab, skin, field)
    outside = bright * (1.0 - dilated(first, 2))
    skin = torch.where(_count(outside)[:, None, None] > 0.0, _mean(lab, outside), skin)
    parted, distance, threshold = _parted(lab, skin, field)
    region = _followed(parted * _centre(height, width), parted)
    return Lesion(dilated(region, 1), skin, distance, threshold)


def _parted(lab: Tensor, skin: Tensor, field: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Part what differs from the skin: mask, ΔE in steps, threshold in steps."""
    n, height, width = lab.shape[1:]
    distance = colour.delta_e(lab, skin)
    smooth = boxed(torch.floor(torch.clamp(distance, max=255.0) + 0.5), 1)
    # Lesions are seldom lighter than skin; what is lit unevenly often is.
    lighter = (lab[0] > skin[0] + _LIGHTER).to(torch.float32)
    weight = field * (1.0 - (1.0 - _LIGHTER_WEIGHT) * lighter)
    levels = torch.floor(smooth * _inverse_box(height, width) * weight)
    threshold = otsu(histogram(levels.reshape(n, -1)))
    mask = (levels > torch.floor(threshold * _THRESHOLD_SHARE)[:, :, None]).to(torch.float32)
    return eroded(dilated(mask, 2), 2), distance, threshold


def _field(lightness: Tensor) -> Tensor:
    """Leave out what a dermoscope leaves dark: regions that reach in from the frame's border."""
    height, width = lightness.shape[1:]
    dark = (lightness < _DARK).to(torch.float32)
    border = 1.0 - F.pad(torch.ones(height - 2, width - 2), (1, 1, 1, 1))
    return 1.0 - dilated(_followed(dark * border, dark), 2)


def _followed(seed: Tensor, mask: Tensor) -> Tensor:
    return grown(seed, mask, math.ceil(max(mask.shape[1:]) * _REACH / _STRIDE), _STRIDE)


def _count(weight: Tensor) -> Tensor:
    return weight.sum(dim=(1, 2))


def _mean(lab: Tensor, weight: Tensor) -> Tensor:
    count = torch.clamp(_count(weight), min=1.0)
    return ((lab * weight).sum(dim=(2, 3)) / count)[:, :, None, None]


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return each pixel's y and x, -1..1 across the frame: float32 [h, w] each."""
    y = (torch.arange(height, dtype=torch.float32) + 0.5) / height * 2.0 - 1.0
    x = (torch.arange(width, dtype=torch.float32) + 0.5) / width * 2.0 - 1.0
    return y[:, None].expand(height, width), x[None, :].expand(height, width)


def rim(height: int, width: int) -> Tensor:
    """Return 1 in the outer tenth of the frame, 0 elsewhere: float32 [h, w]."""
    y, x = grid(height, width)
    return (torch.maximum(y.abs(), x.abs()) > 1.0 - 2.0 * _RIM).to(torch.float32)


def _centre(height: int, width: int) -> Tensor:
    y, x = grid(height, width)
    return (y * y + x * x < _CENTRE).to(torch.float32)


def _inverse_box(height: int, width: int) -> Tensor:
    return 1.0 / boxed(torch.ones(1, height, width), 1)
