"""Quality measures of a frame, exact: sums are split into digits that float32 holds.

A mean is written as a multiplication by the float32 reciprocal of the count. A converter may
replace a division by a constant with just that, and the two differ in the last bit. Nor may it
see a mean in a sum and that multiplication: some kernels of a mean divide, some multiply.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_GROUP = 16  # 16 squared Laplacians, each at most 1020**2, stay below 2**24


def share(selected: Tensor) -> Tensor:
    """Share of pixels selected.

    Args:
        selected: float32 [n, 1, h, w], 0 or 1, with h * w < 2**24.

    Returns:
        float32 [n], 0..1.
    """
    rows = torch.sum(selected, dim=3)  # summed in two steps, no step is a mean
    return torch.sum(rows, dim=(1, 2)) * _reciprocal(selected)


def sharpness(gray: Tensor) -> Tensor:
    """Variance of the 4-neighbour Laplacian, as ``cv2.Laplacian(gray, CV_32F, ksize=1).var()``.

    Borders are mirrored without repeating the edge (REFLECT_101). Pech-Pacheco et al., 2000.

    Args:
        gray: float32 [n, 1, h, w], integers 0..255; exact while h * ceil(w / 16) * 255 < 2**24,
            which a megapixel is.

    Returns:
        float32 [n], in squared gray levels.
    """
    rows = _mirrored(gray, dim=2)
    columns = _mirrored(gray, dim=3)
    laplacian = (
        rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:] - 4.0 * gray
    )
    mean_square = _exact_sum(_grouped(laplacian * laplacian), digits=3) * _reciprocal(gray)
    sums = _grouped(laplacian)
    offset = 1020.0 * _GROUP
    total = _exact_sum(sums + offset, digits=2) - offset * float(sums.shape[1] * sums.shape[2])
    mean = total * _reciprocal(gray)
    return mean_square - mean * mean


def _mirrored(image: Tensor, dim: int) -> Tensor:
    """Add a line on both sides, REFLECT_101. ``F.pad`` becomes one that XNNPACK does not take."""
    last = image.shape[dim] - 1
    return torch.cat([image.narrow(dim, 1, 1), image, image.narrow(dim, last - 1, 1)], dim)


def _reciprocal(image: Tensor) -> float:
    return float(np.float32(1.0) / np.float32(image.shape[-2] * image.shape[-1]))


def _grouped(values: Tensor) -> Tensor:
    """Sum runs of 16 along the width: [n, 1, h, w] to [n, h, ceil(w / 16)]."""
    width = values.shape[-1]
    padded = F.pad(values, (0, -width % _GROUP))
    n, _, height, padded_width = padded.shape
    return padded.reshape(n, height, padded_width // _GROUP, _GROUP).sum(dim=-1)


def _exact_sum(values: Tensor, digits: int) -> Tensor:
    """Sum non-negative integers below 256**digits, digit by digit in base 256.

    Each digit's sum is exact; the digits are joined from the most significant, by powers of two,
    so the few roundings at the end are the same everywhere.
    """
    total: Tensor | None = None
    for position in reversed(range(digits)):
        place = float(256**position)
        digit = torch.floor(values * (1.0 / place))
        values = values - digit * place
        part = torch.sum(digit, dim=(1, 2)) * place
        total = part if total is None else total + part
    assert total is not None
    return total
