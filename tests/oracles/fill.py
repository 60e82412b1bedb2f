"""Filling by a pull-push pyramid in NumPy's integers, and by OpenCV's Telea."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def pull_push(
    image: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_], levels: int
) -> npt.NDArray[np.uint8]:
    """Fill where ``known`` is false: uint8 [h, w, c] and bool [h, w] to uint8 [h, w, c].

    Down: a coarse pixel is the mean of the known ones of its 2x2 block, rounded half up. At the
    top, holes take the mean of what is known. Up: holes take the coarse level interpolated
    linearly, a coarse pixel's centre lying between its four fine ones, rounded half up; in the
    image itself, the coarse pixel that they lie in.
    """
    filled = []
    for plane in np.moveaxis(image.astype(np.int64), -1, 0):
        above = _filled(*_coarse(plane, known), levels - 1)
        nearest = above.repeat(2, axis=0).repeat(2, axis=1)
        filled.append(np.where(known, plane, nearest[: plane.shape[0], : plane.shape[1]]))
    return np.stack(filled, axis=-1).astype(np.uint8)


def _filled(values: Ints, known: Bools, levels: int) -> Ints:
    if levels == 0:
        count = int(known.sum())
        mean = _half_up(int(values[known].sum()), count) if count else 0
        return np.where(known, values, mean)
    above = _filled(*_coarse(values, known), levels - 1)
    return np.where(known, values, _doubled(above)[: values.shape[0], : values.shape[1]])


def _coarse(values: Ints, known: Bools) -> tuple[Ints, Bools]:
    coarse = np.zeros(((values.shape[0] + 1) // 2, (values.shape[1] + 1) // 2), np.int64)
    any_known = np.zeros(coarse.shape, np.bool_)
    for y, x in np.ndindex(*coarse.shape):
        block = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        inside = values[block][known[block]]
        if inside.size:
            coarse[y, x], any_known[y, x] = _half_up(int(inside.sum()), inside.size), True
    return coarse, any_known


def _half_up(total: int, count: int) -> int:
    return (2 * total + count) // (2 * count)


def _doubled(coarse: Ints) -> Ints:
    """Interpolate to twice the size: 9, 3, 3 and 1 sixteenths of the four nearest."""
    edge = np.pad(coarse, 1, mode="edge")
    middle = edge[1:-1, 1:-1]
    fine = np.empty((2 * coarse.shape[0], 2 * coarse.shape[1]), np.int64)
    for dy in (0, 1):
        for dx in (0, 1):
            vertical = edge[2 * dy : 2 * dy + coarse.shape[0], 1:-1]
            horizontal = edge[1:-1, 2 * dx : 2 * dx + coarse.shape[1]]
            corner = edge[2 * dy : 2 * dy + coarse.shape[0], 2 * dx : 2 * dx + coarse.shape[1]]
            fine[dy::2, dx::2] = (9 * middle + 3 * vertical + 3 * horizontal + corner + 8) // 16
    return fine


def telea(image: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Fill as the origin project does: ``cv2.inpaint`` with radius 1."""
    holes = np.where(known, 0, 255).astype(np.uint8)
    return np.asarray(cv2.inpaint(image, holes, 1, cv2.INPAINT_TELEA), np.uint8)
