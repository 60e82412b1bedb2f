"""Lesion masks: an expert's from a file, the screen's from its coarse grid, on one framed photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.transform import resize

from classkinfy_export.contract import SCREEN_SCALE, Capture
from classkinfy_export.frame import frame

Mask = npt.NDArray[np.bool_]

LESION_ABOVE = 127
"""The level of a mask file above which a pixel is lesion."""


def read(path: Path, capture: Capture) -> Mask:
    """Read a mask file and frame it as its photo is framed; above 127 is lesion.

    Returns:
        bool [H, W] of the capture.

    Raises:
        ImageError: the file is not a complete image.
    """
    return frame(path, capture)[0, :, :, 0] > LESION_ABOVE


def enlarge(coarse: npt.NDArray[np.uint8], capture: Capture) -> Mask:
    """Enlarge the screen's ``lesion_mask`` smoothly; what it leaves out at the edge is no lesion.

    Args:
        coarse: uint8 [h, w], 0 or 1.
        capture: the size of ``clean``.

    Returns:
        bool [H, W].
    """
    height, width = (side * SCREEN_SCALE for side in coarse.shape)
    mask = np.zeros(capture.as_tuple(), np.bool_)
    fine = resize(coarse.astype(np.float64), (height, width), order=1)  # type: ignore[no-untyped-call]
    mask[:height, :width] = fine >= 0.5
    return mask


def iou(found: Mask, expert: Mask) -> float:
    """Return intersection over union, 0..1; 1 when both are empty."""
    union = np.count_nonzero(found | expert)
    return np.count_nonzero(found & expert) / union if union else 1.0
