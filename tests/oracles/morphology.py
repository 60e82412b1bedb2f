"""Black-hat by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def black_hat(gray: npt.NDArray[np.uint8], window: int) -> npt.NDArray[np.uint8]:
    """Closing minus image with a square of ``window`` pixels, uint8 [h, w] to the same."""
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (window, window))
    return np.asarray(cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, square), np.uint8)
