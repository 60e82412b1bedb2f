"""Luma in OpenCV's fixed-point arithmetic."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gray(rgb: Tensor) -> Tensor:
    """Convert to gray, bit for bit as ``cv2.cvtColor(…, COLOR_RGB2GRAY)`` on uint8.

    ``(9798 R + 19235 G + 3735 B + 16384) >> 15``: BT.601 weights in 15-bit fixed point.

    Args:
        rgb: float32 [n, 3, h, w], integers 0..255.

    Returns:
        float32 [n, 1, h, w], integers 0..255.
    """
    # A convolution, and not three slices: ONNX Runtime moves the transpose before it behind slices
    # and element-wise operations, which then run over rows of one element.
    weights = torch.tensor([9798.0, 19235.0, 3735.0], dtype=rgb.dtype).view(1, 3, 1, 1)
    bias = torch.tensor([16384.0], dtype=rgb.dtype)
    return torch.floor(F.conv2d(rgb, weights, bias) * (1.0 / 32768.0))
