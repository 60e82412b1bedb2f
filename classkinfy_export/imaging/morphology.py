"""Grayscale morphology with a square window, as shifted maxima.

A maximum over n neighbours takes log2(n) shifted maxima, which CPU runtimes vectorise, where
their pooling kernels visit all n. A minimum is ``-max(-x)``, written out with ``minimum``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def black_hat(image: Tensor, window: int) -> Tensor:
    """Closing minus image, bit for bit as ``cv2.morphologyEx(…, MORPH_BLACKHAT, RECT)``.

    The border is padded so that it never wins: with 0 under the dilation and 255 under the
    erosion, which for 0..255 equals OpenCV's -inf and +inf.

    Args:
        image: float32 [n, 1, h, w], integers 0..255.
        window: odd side of the square structuring element, pixels.

    Returns:
        float32 [n, 1, h, w], integers 0..255.
    """
    dilated = _filter(image, window, torch.maximum, border=0.0)
    closed = _filter(dilated, window, torch.minimum, border=255.0)
    return closed - image


def _filter(
    image: Tensor, window: int, pick: Callable[[Tensor, Tensor], Tensor], border: float
) -> Tensor:
    if window % 2 == 0:
        raise ValueError(f"window must be odd, got {window}")
    r = window // 2
    padded = F.pad(image, (r, r, r, r), value=border)
    return _slide(_slide(padded, window, pick, dim=3), window, pick, dim=2)


def _slide(
    image: Tensor, window: int, pick: Callable[[Tensor, Tensor], Tensor], dim: int
) -> Tensor:
    """Reduce every run of ``window`` neighbours along ``dim``; the axis shrinks by window - 1."""
    size = image.shape[dim]
    run, covered = image, 1
    while covered * 2 <= window:
        length = size - covered * 2 + 1
        run = pick(run.narrow(dim, 0, length), run.narrow(dim, covered, length))
        covered *= 2
    if covered < window:
        length = size - window + 1
        run = pick(run.narrow(dim, 0, length), run.narrow(dim, window - covered, length))
    return run
