"""Colour spaces by tables and IEEE +, -, *, / alone: the same floats on every runtime.

``pow``, ``exp`` and ``cbrt`` differ in the last bits from library to library, and some kernels
approximate a square root, so roots are taken here by iteration.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
"""Of D65 for the 2 degree observer, as in scikit-image."""
_KNEE = 0.008856
_TINY = 1e-6


def linear_table() -> Tensor:
    """Return sRGB's linear light by level, IEC 61966-2-1: float32 [256, 1], 0..1."""
    level = torch.arange(256, dtype=torch.float64) / 255.0
    curve = ((level + 0.055) / 1.055) ** 2.4
    return torch.where(level > 0.04045, curve, level / 12.92).to(torch.float32)[:, None]


def lab(rgb: Tensor, table: Tensor) -> Tensor:
    """Convert to CIE Lab (D65, 2 degrees), within 1e-3 of ``skimage.color.rgb2lab``.

    Args:
        rgb: float32 [3, n, h, w], integers 0..255.
        table: ``linear_table()``.

    Returns:
        float32 [3, n, h, w]: L 0..100, a and b about -110..110.
    """
    light = F.embedding(rgb.to(torch.int32), table).reshape(rgb.shape)
    red, green, blue = light[0], light[1], light[2]
    x, y, z = (
        _compressed(red * (r / white) + green * (g / white) + blue * (b / white))
        for (r, g, b), white in zip(_XYZ, _WHITE, strict=True)
    )
    return torch.stack((y * 116.0 - 16.0, (x - y) * 500.0, (y - z) * 200.0))


def _compressed(light: Tensor) -> Tensor:
    return torch.where(light > _KNEE, _cube_root(light), light * 7.787 + 16.0 / 116.0)


def _cube_root(values: Tensor) -> Tensor:
    """Take the cube root of 0.008..1.1 by Halley's iteration, to the last bits."""
    root = (values * -0.55 + 1.27) * values + 0.28
    for _ in range(3):
        cube = root * root * root
        root = root * ((cube + values + values) / (cube + cube + values))
    return root


def delta_e(first: Tensor, second: Tensor) -> Tensor:
    """Return ΔE76, the Euclidean distance in Lab: [3, n, h, w] twice to [n, h, w]."""
    difference = first - second
    square = difference * difference
    total = square[0] + square[1] + square[2]
    size = torch.abs(difference)
    largest = torch.maximum(torch.maximum(size[0], size[1]), size[2])
    # Within a factor of 1.4 of the root, from which four of Heron's steps reach its last bits.
    root = torch.clamp(largest * 1.25, min=_TINY)
    for _ in range(4):
        root = (root + total / root) * 0.5
    return root


def hsv(rgb: Tensor) -> Tensor:
    """Convert to HSV as ``skimage.color.rgb2hsv``.

    Args:
        rgb: float32 [3, n, h, w], integers 0..255.

    Returns:
        float32 [3, n, h, w]: hue in turns 0..1, saturation 0..1, value 0..1.
    """
    red, green, blue = rgb[0], rgb[1], rgb[2]
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    over = torch.clamp(chroma, min=1.0)
    sector = (green - blue) / over
    # Blue wins ties in scikit-image, green comes next.
    sector = torch.where(green == value, (blue - red) / over + 2.0, sector)
    sector = torch.where(blue == value, (red - green) / over + 4.0, sector)
    hue = torch.where(sector < 0.0, sector + 6.0, sector) * (1.0 / 6.0)
    grey = chroma == 0.0
    hue = torch.where(grey, torch.zeros_like(hue), hue)
    return torch.stack((hue, chroma / torch.clamp(value, min=1.0), value * (1.0 / 255.0)))
