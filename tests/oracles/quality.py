"""Quality measures: OpenCV's and NumPy's, and the documented rounding in Python's integers."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_GROUP = 16


def laplacian(gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The 4-neighbour Laplacian by OpenCV, borders mirrored without repeating the edge."""
    border = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.Laplacian(gray, cv2.CV_64F, ksize=1, borderType=border), np.float64)


def sharpness(gray: npt.NDArray[np.uint8]) -> float:
    """The Laplacian's variance in float64, uint8 [h, w]."""
    return float(laplacian(gray).var())


def rounded_sharpness(gray: npt.NDArray[np.uint8]) -> np.float32:
    """The same in integers, rounded to float32 only where ``imaging.quality`` says it is.

    Sums over runs of 16 pixels are split into base-256 digits, whose sums are exact; the digits
    are joined from the most significant one. A mean is the sum times the float32 reciprocal.
    """
    rows: list[list[int]] = laplacian(gray).astype(np.int64).tolist()
    squares = [sum(v * v for v in run) for row in rows for run in _runs(row)]
    sums = [sum(run) + 1020 * _GROUP for row in rows for run in _runs(row)]
    reciprocal = np.float32(1) / np.float32(gray.size)
    offset = np.float32(1020 * _GROUP * len(sums))
    mean_square = _joined(squares, digits=3) * reciprocal
    mean = (_joined(sums, digits=2) - offset) * reciprocal
    return np.float32(mean_square - mean * mean)


def _runs(row: list[int]) -> list[list[int]]:
    return [row[start : start + _GROUP] for start in range(0, len(row), _GROUP)]


def _joined(values: list[int], digits: int) -> np.float32:
    total = np.float32(0)
    for place in reversed(range(digits)):
        digit_sum = sum((value >> (8 * place)) % 256 for value in values)
        assert digit_sum < 2**24, "the sum of this digit is not exact in float32"
        assert all(value < 256**digits for value in values)
        total = np.float32(total + np.float32(digit_sum) * np.float32(256**place))
    return total
