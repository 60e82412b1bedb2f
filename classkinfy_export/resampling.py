"""Exact bilinear resampling: integer weights that every runtime sums to the same byte.

The formula is Pillow's ``Image.resize(BILINEAR)``: a triangle filter whose support grows with
the scale (antialiasing), weights cut at the image border and renormalised, horizontal pass
first, rounding to uint8 after each pass. The weights are then fixed to ``k / 65536`` with every
row summing to exactly 65536. A weighted sum of bytes is below 2**24, so float32 holds each
partial sum exactly and the order of summation cannot matter: PyTorch, ONNX Runtime, LiteRT,
NumPy and a hand-written loop in Kotlin give the same bytes.

This file is torch-free. The graph (``imaging.resize``) and the host (``frame``) both use it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

WEIGHT_SCALE = 65536
"""Every row of weights sums to this; 65536 * 255 + 32768 < 2**24 is exact in float32."""


@lru_cache(maxsize=64)
def taps(in_size: int, out_size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first source index and the integer weights for each output position.

    Args:
        in_size: length of the source axis, pixels.
        out_size: length of the target axis, pixels.

    Returns:
        ``first``: int64 [out_size], and ``weights``: int64 [out_size, n], each row summing to
        65536, zero-padded on the right.
    """
    if in_size < 1 or out_size < 1:
        raise ValueError(f"sizes must be positive, got {in_size} -> {out_size}")
    # Positions in units of 1 / (2 * out_size) source pixels are integers, so no rounding of
    # doubles decides which of two equal remainders is the larger, here or in another language.
    support = 2 * max(in_size, out_size)
    first = np.empty(out_size, np.int64)
    rows: list[npt.NDArray[np.int64]] = []
    for i in range(out_size):
        center = (2 * i + 1) * in_size
        lo = max((center - support + out_size) // (2 * out_size), 0)
        hi = min((center + support + out_size) // (2 * out_size), in_size)
        distance = np.abs((2 * np.arange(lo, hi, dtype=np.int64) + 1) * out_size - center)
        weights = np.maximum(support - distance, 0)
        floor, remainder = np.divmod(weights * WEIGHT_SCALE, weights.sum())
        # Largest remainder, the first of equal ones: the row sums to WEIGHT_SCALE and no weight
        # moves by a whole step.
        missing = WEIGHT_SCALE - int(floor.sum())
        floor[np.argsort(-remainder, kind="stable")[:missing]] += 1
        first[i] = lo
        rows.append(floor)
    weights_table = np.zeros((out_size, max(len(r) for r in rows)), np.int64)
    for i, row in enumerate(rows):
        weights_table[i, : len(row)] = row
    first.setflags(write=False)
    weights_table.setflags(write=False)
    return first, weights_table


def matrix(in_size: int, out_size: int) -> npt.NDArray[np.float32]:
    """Return the weights as a dense matrix, float32 [out_size, in_size], integers 0..65536."""
    first, weights = taps(in_size, out_size)
    dense = np.zeros((out_size, in_size), np.float32)
    for i in range(out_size):
        n = min(weights.shape[1], in_size - first[i])
        dense[i, first[i] : first[i] + n] = weights[i, :n]
    return dense


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize on the host, byte for byte as the graph does.

    Args:
        image: uint8 [h, w, c], 0..255.
        height: rows wanted.
        width: columns wanted.

    Returns:
        uint8 [height, width, c].
    """
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"expected uint8 [h, w, c], got {image.dtype} {list(image.shape)}")
    rows = _resize_axis(image, width, axis=1)
    return _resize_axis(rows, height, axis=0)


def _resize_axis(image: npt.NDArray[np.uint8], size: int, axis: int) -> npt.NDArray[np.uint8]:
    in_size = image.shape[axis]
    if in_size == size:
        return image
    first, weights = taps(in_size, size)
    shape = [1, 1, 1]
    shape[axis] = size
    total: npt.NDArray[np.int32] | None = None
    for t in range(weights.shape[1]):
        index = np.minimum(first + t, in_size - 1)
        term = image.take(index, axis=axis) * weights[:, t].astype(np.int32).reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None
    return ((total + WEIGHT_SCALE // 2) >> 16).astype(np.uint8)
