"""Luma in OpenCV's fixed-point arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor


def gray(rgb: Tensor) -> Tensor:
    """Convert to gray, bit for bit as ``cv2.cvtColor(…, COLOR_RGB2GRAY)`` on uint8.

    ``(9798 R + 19235 G + 3735 B + 16384) >> 15``: BT.601 weights in 15-bit fixed point.

    Args:
        rgb: uint8 or float32 [3, n, h, w], integers 0..255.

    Returns:
        [n, 1, h, w] of the same dtype, integers 0..255.
    """
    wide = torch.float32 if rgb.dtype == torch.uint8 else rgb.dtype
    # Weights in 32768ths: every product and sum is exact, as it is in integers.
    weights = torch.tensor([[9798.0, 19235.0, 3735.0]], dtype=wide) / 32768.0
    # A matrix product, and not three slices: ONNX Runtime moves the transpose before it behind
    # slices and element-wise operations, which then run over rows of one element.
    total = torch.matmul(weights, rgb.to(wide).reshape(3, -1)) + 0.5
    levels = torch.floor(total) if rgb.is_floating_point() else total.to(rgb.dtype)
    return levels.reshape(-1, 1, *rgb.shape[-2:])
