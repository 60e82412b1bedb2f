"""Regions against OpenCV and scikit-image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.measure import label
from skimage.morphology import reconstruction

from classkinfy_export.imaging.region import boxed, dilated, eroded, grown

Mask = npt.NDArray[np.uint8]


def blobs(seed: int) -> Mask:
    noise = np.random.default_rng(seed).normal(size=(56, 75))
    return (cv2.GaussianBlur(noise, (0, 0), 2) > 0).astype(np.uint8)


def planes(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None]


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_dilation_erosion_and_box_sums_are_opencvs(radius: int) -> None:
    mask = blobs(radius)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    np.testing.assert_array_equal(dilated(planes(mask), radius)[0], cv2.dilate(mask, kernel))
    np.testing.assert_array_equal(eroded(planes(mask), radius)[0], cv2.erode(mask, kernel))
    sums = cv2.boxFilter(
        mask * 200.0, -1, kernel.shape, normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    np.testing.assert_array_equal(boxed(planes(mask) * 200.0, radius)[0], sums)


@pytest.mark.parametrize("seed", range(5))
def test_growing_far_enough_gives_the_regions_of_the_seed(seed: int) -> None:
    mask = blobs(seed)
    start = np.zeros_like(mask)
    start[20:36, 30:45] = 1
    given = grown(planes(start), planes(mask), 56 * 75, 1)[0].numpy()
    regions = label(mask, connectivity=2)
    touched = np.unique(regions[(start > 0) & (mask > 0)])
    np.testing.assert_array_equal(given > 0, np.isin(regions, touched))
    whole = reconstruction(np.minimum(start, mask), mask, footprint=np.ones((3, 3)))
    np.testing.assert_array_equal(given, whole)


def test_growing_stops_after_its_steps() -> None:
    corridor = np.zeros((9, 40), np.uint8)
    corridor[4] = 1
    start = np.zeros_like(corridor)
    start[4, 0] = 1
    assert int(grown(planes(start), planes(corridor), 7, 1).sum()) == 8


@pytest.mark.parametrize("stride", [1, 4])
def test_growing_leaps_gaps_narrower_than_its_stride(stride: int) -> None:
    line = np.zeros((9, 40), np.uint8)
    line[4] = 1
    start = np.zeros_like(line)
    start[4, :6] = 1
    for gap in (stride - 1, stride):
        broken = line.copy()
        broken[4, 6 : 6 + gap] = 0
        given = int(grown(planes(start), planes(broken), 40, stride).sum())
        assert given == (broken.sum() if gap < stride else 6)
