"""Luma by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def gray(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Turn uint8 [h, w, 3] RGB into uint8 [h, w]."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def every_colour(red: int) -> npt.NDArray[np.uint8]:
    """All colours with this red, uint8 [256, 256, 3]: the 2**24 colours are 256 such pictures."""
    level = np.arange(256, dtype=np.uint8)
    green, blue = np.meshgrid(level, level, indexing="ij")
    return np.ascontiguousarray(np.stack((np.full_like(green, red), green, blue), axis=-1))
