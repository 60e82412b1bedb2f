"""The antialiased resize in Python's own integers and fractions, and Pillow's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from PIL import Image

SCALE = 65536


def triangle(in_size: int, out_size: int) -> list[dict[int, Fraction]]:
    """Pillow's bilinear filter without any rounding: for each output, source index to weight."""
    scale = Fraction(in_size, out_size)
    support = max(scale, Fraction(1))
    rows = []
    for i in range(out_size):
        center = (i + Fraction(1, 2)) * scale
        near = range(max(0, int(center - support) - 1), min(in_size, int(center + support) + 2))
        heights = {x: 1 - abs(x + Fraction(1, 2) - center) / support for x in near}
        heights = {x: height for x, height in heights.items() if height > 0}
        total = sum(heights.values())
        rows.append({x: height / total for x, height in heights.items()})
    return rows


def weights(in_size: int, out_size: int) -> list[dict[int, int]]:
    """The filter in 65536ths that sum to 65536: rounded down, the rest to the largest remainders.

    Of equal remainders the one further left comes first.
    """
    rows = []
    for row in triangle(in_size, out_size):
        whole = {x: int(weight * SCALE) for x, weight in row.items()}
        by_remainder = sorted(row, key=lambda x: (int(row[x] * SCALE) - row[x] * SCALE, x))
        for x in by_remainder[: SCALE - sum(whole.values())]:
            whole[x] += 1
        rows.append(whole)
    return rows


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize uint8 [h, w, c], columns first, one Python integer at a time."""
    across, down = weights(image.shape[1], width), weights(image.shape[0], height)
    channels = range(image.shape[2])
    pixels: list[list[list[int]]] = image.tolist()
    if image.shape[1] != width:
        pixels = [
            [[_level(sum(k * row[x][c] for x, k in w.items())) for c in channels] for w in across]
            for row in pixels
        ]
    if image.shape[0] != height:
        pixels = [
            [
                [_level(sum(k * pixels[y][x][c] for y, k in w.items())) for c in channels]
                for x in range(width)
            ]
            for w in down
        ]
    return np.array(pixels, np.uint8).reshape(height, width, len(channels))


def _level(total: int) -> int:
    return (total + SCALE // 2) // SCALE


def pillow(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize uint8 [h, w, 3] by Pillow."""
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def without_antialiasing(in_size: int, out_size: int) -> npt.NDArray[np.float32]:
    """OpenCV's INTER_LINEAR as a matrix in 65536ths: two neighbours, however small the output."""
    matrix = np.zeros((out_size, in_size), np.float32)
    for row, place in enumerate((np.arange(out_size) + 0.5) * in_size / out_size - 0.5):
        left = min(max(int(np.floor(place)), 0), in_size - 1)
        right = min(left + 1, in_size - 1)
        part = round(float(np.clip(place - left, 0, 1)) * SCALE)
        matrix[row, left] += SCALE - part
        matrix[row, right] += part
    return matrix
