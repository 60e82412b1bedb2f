"""Lab, ΔE76, HSV and Otsu against scikit-image."""

from __future__ import annotations

import numpy as np
import torch
from skimage import color, filters

from classkinfy_export.imaging import colour
from classkinfy_export.imaging.otsu import histogram, otsu

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
PLANES = torch.from_numpy(IMAGE).permute(2, 0, 1)[:, None].float()


def test_lab_and_delta_e_lie_within_a_thousandth_of_scikit_image() -> None:
    expected = color.rgb2lab(IMAGE)
    given = colour.lab(PLANES, colour.linear_table())
    assert np.abs(given[:, 0].permute(1, 2, 0).numpy() - expected).max() < 1e-3
    distance = colour.delta_e(given, given.flip(3))[0].numpy()
    assert np.abs(distance - color.deltaE_cie76(expected, expected[:, ::-1])).max() < 1e-3


def test_hsv_equals_scikit_image() -> None:
    given = colour.hsv(PLANES)[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(given - color.rgb2hsv(IMAGE)).max() < 1e-6


def test_otsu_equals_scikit_image() -> None:
    levels = np.clip(np.random.default_rng(1).normal([60, 160], 20, (2000, 2)), 0, 255).astype(int)
    counts = histogram(torch.from_numpy(levels.reshape(1, -1)).float())
    assert (counts[0].numpy() == np.bincount(levels.ravel(), minlength=256)).all()
    assert float(otsu(counts)) == filters.threshold_otsu(levels)
