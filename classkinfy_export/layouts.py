"""RGB pixels in the layouts that cameras deliver; ``imaging.layout`` reads them in the graph.

For photos that did not come from the camera: golden vectors, verification, a gallery. Torch-free.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from classkinfy_export.contract import Layout

Pixels = npt.NDArray[np.uint8]

_LUMA = (19595, 38470, 7471)
_BLUE = (-11059, -21709, 32768)
_RED = (32768, -27439, -5329)
"""BT.601, full range, in 65536ths: ITU-T T.871."""


def encode(rgb: Pixels, layout: Layout) -> Pixels:
    """Lay out pixels as ``contract.Capture`` describes.

    Args:
        rgb: uint8 [1, h, w, 3].
        layout: the layout wanted. NV21 halves the resolution of colour: each block of 2 x 2 pixels
            gets its mean.

    Returns:
        uint8, shaped as ``contract.image_spec`` says.
    """
    if layout == "rgb":
        return rgb
    if layout == "rgba":
        return np.concatenate((rgb, np.full_like(rgb[..., :1], 255)), axis=-1)
    n, height, width, _ = rgb.shape
    wide = rgb.astype(np.int64)
    luma = (wide @ _LUMA + (1 << 15)) >> 16
    blocks = wide.reshape(n, height // 2, 2, width // 2, 2, 3).sum(axis=(2, 4))
    chroma = np.stack([blocks @ _RED, blocks @ _BLUE], axis=-1)
    # Four pixels a block, and 128 stands for no colour.
    pairs = np.clip((chroma + (128 << 18) + (1 << 17)) >> 18, 0, 255)
    return np.concatenate((luma, pairs.reshape(n, height // 2, width)), axis=1).astype(np.uint8)
