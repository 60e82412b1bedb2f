"""Pixels as cameras give them, and the planes of levels that operations work on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from classkinfy_export.imaging import rows

# All go through two axes. ONNX Runtime moves a four-axis transpose past element-wise operations
# towards another one that cancels it, and these then run over rows of three elements.


def to_planes(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, h, w, c] into uint8 [c, n, h, w]: the colour planes lead."""
    return pixels.reshape(-1, pixels.shape[-1]).t().reshape(-1, *pixels.shape[:-1])


def to_images(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, h, w, 3] into float32 [n, 3, h, w], as networks take images."""
    planes = to_planes(pixels).to(torch.float32)
    if len(pixels) == 1:  # as exported: the transpose of one image's planes is a view of them
        return planes.reshape(1, -1, *planes.shape[2:])
    return planes.transpose(0, 1)


def to_pixels(planes: Tensor) -> Tensor:
    """Turn integers 0..255 in uint8 or float32 [3, n, h, w] into uint8 [n, h, w, 3]."""
    pixels = planes.reshape(planes.shape[0], -1).t().reshape(*planes.shape[1:], -1)
    return pixels.to(torch.uint8)


def from_nv21(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a camera's NV21 into RGB planes, in libjpeg's fixed-point arithmetic.

    ITU-T T.871 (JFIF), BT.601 at full range, in 65536ths: a product with 128 is below 2**24. Pixels
    of a 2x2 block share their colour difference.

    Args:
        image: uint8 [n, 3 h / 2, w]: h rows of luma, then h / 2 rows of V and U in turn.
        dtype: uint8, or float32 for a runtime that works along rows.

    Returns:
        float32 [3, n, h, w], integers 0..255.
    """
    n, rows_in_all, width = image.shape
    height = rows_in_all * 2 // 3
    luma = image[:, :height].to(torch.float32)
    pairs = image[:, height:].reshape(n, height // 2, width // 2, 2)
    red, blue = (to_planes(pairs).to(torch.float32) - 128.0).unbind(0)
    shifts = torch.stack((91881.0 * red, -46802.0 * red - 22554.0 * blue, 116130.0 * blue))
    shifts = torch.floor((shifts + 32768.0) * (1.0 / 65536.0))
    if dtype.is_floating_point:
        shifts = rows.along_both(shifts, rows.repeated)
    else:
        shifts = F.interpolate(shifts, scale_factor=2.0, mode="nearest")
    return torch.clamp(luma + shifts, 0.0, 255.0)
