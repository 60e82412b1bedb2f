"""Luma in OpenCV's fixed-point arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor


def gray(rgb: Tensor) -> Tensor:
    """Convert to gray, bit for bit as ``cv2.cvtColor(…, COLOR_RGB2GRAY)`` on uint8.

    ``(9798 R + 19235 G + 3735 B + 16384) >> 15``: BT.601 weights in 15-bit fixed point.

    Args:
        rgb: float32 [n, 3, h, w], integers 0..255.

    Returns:
        float32 [n, 1, h, w], integers 0..255.
    """
    red, green, blue = rgb[:, 0:1], rgb[:, 1:2], rgb[:, 2:3]
    total = red * 9798.0 + green * 19235.0 + blue * 3735.0 + 16384.0
    return torch.floor(total * (1.0 / 32768.0))
