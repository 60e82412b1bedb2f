"""Pixels as cameras give them, and the planes of levels that operations work on."""

from __future__ import annotations

import torch
from torch import Tensor

# All go through two axes. ONNX Runtime moves a four-axis transpose past element-wise operations
# towards another one that cancels it, and these then run over rows of three elements.


def to_planes(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, h, w, 3] into uint8 [3, n, h, w]: the colour planes lead."""
    return pixels.reshape(-1, pixels.shape[-1]).t().reshape(-1, *pixels.shape[:-1])


def to_images(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, h, w, 3] into float32 [n, 3, h, w], as networks take images."""
    return to_planes(pixels).to(torch.float32).transpose(0, 1)


def to_pixels(planes: Tensor) -> Tensor:
    """Turn integers 0..255 in uint8 or float32 [3, n, h, w] into uint8 [n, h, w, 3]."""
    pixels = planes.reshape(planes.shape[0], -1).t().reshape(*planes.shape[1:], -1)
    return pixels.to(torch.uint8)
