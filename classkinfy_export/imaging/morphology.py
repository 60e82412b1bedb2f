"""Grayscale morphology with a square window, in the form that is fast where it runs.

The dtype of the levels chooses it. On uint8 a maximum over n neighbours is log3(n) maxima of three
shifted images: PyTorch and ONNX Runtime vectorise them over bytes, where pooling visits all n.
LiteRT has no 8-bit maximum; float levels are pooled instead, along rows (see ``rows``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from classkinfy_export.imaging import rows


def black_hat(image: Tensor, window: int) -> Tensor:
    """Closing minus image, bit for bit as ``cv2.morphologyEx(…, MORPH_BLACKHAT, RECT)``.

    The border is padded so that it never wins: with 0 under the dilation and 255 under the
    erosion, which for 0..255 equals OpenCV's -inf and +inf.

    Args:
        image: uint8 or float32 [n, 1, h, w], integers 0..255.
        window: odd side of the square structuring element, pixels.

    Returns:
        float32 [n, 1, h, w], integers 0..255.

    Raises:
        ValueError: an even window.
    """
    if window % 2 == 0:
        raise ValueError(f"window must be odd, got {window}")
    close = _pooled if image.is_floating_point() else _shifted
    return close(image, window).to(torch.float32) - image.to(torch.float32)


def _shifted(image: Tensor, window: int) -> Tensor:
    for pick, border in ((torch.maximum, 0), (torch.minimum, 255)):
        r = window // 2
        padded = F.pad(image, (r, r, r, r), value=border)
        image = _slide(_slide(padded, window, pick, dim=3), window, pick, dim=2)
    return image


def _slide(
    image: Tensor, window: int, pick: Callable[[Tensor, Tensor], Tensor], dim: int
) -> Tensor:
    """Reduce every run of ``window`` neighbours along ``dim``; the axis shrinks by window - 1."""
    size, run, covered = image.shape[dim], image, 1
    while covered < window:
        reach = min(3 * covered, window)
        length = size - reach + 1
        first, *others = (
            run.narrow(dim, start, length)
            for start in sorted({0, min(covered, reach - covered), reach - covered})
        )
        run, covered = reduce(pick, others, first), reach
    return run


def _pooled(image: Tensor, window: int) -> Tensor:
    def pool(columns: Tensor) -> Tensor:
        return F.max_pool2d(columns, (window, 1), stride=1)

    r = window // 2
    along_rows = partial(rows.as_channels, operation=pool)
    dilated = rows.along_both(F.pad(image, (r, r, r, r), value=0.0), along_rows)
    return -rows.along_both(-F.pad(dilated, (r, r, r, r), value=255.0), along_rows)
