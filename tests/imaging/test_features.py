"""Features against scikit-image and plain NumPy."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage import color
from skimage.measure import label, regionprops

from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.data import synthetic
from classkinfy_export.imaging import colour
from classkinfy_export.imaging.features import describe
from classkinfy_export.imaging.lesion import STEPS, Lesion, reduced, segment

Image = npt.NDArray[np.uint8]


def measured(image: Image, mask: npt.NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Describe uint8 [h, w, 3], of which pixels are the screen's; on a mask of one's own."""
    rgb = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[:, None]
    lab = torch.floor(colour.lab(rgb, colour.linear_table()) * STEPS + 0.5)
    lesion = segment(lab)
    if mask is not None:
        lesion = Lesion(
            torch.from_numpy(mask.astype(np.float32))[None],
            lesion.skin,
            lesion.distance,
            lesion.threshold,
        )
    values = describe(rgb, lab, lesion)[0].tolist()
    return dict(zip(SCREEN_FEATURES, values, strict=True))


def ellipse(angle: float, axes: tuple[int, int] = (20, 9)) -> npt.NDArray[np.bool_]:
    canvas = np.zeros((56, 75), np.uint8)
    return cv2.ellipse(canvas, (37, 28), axes, angle, 0, 360, 1, -1).astype(bool)


NOISE = np.random.default_rng(0).integers(0, 256, (56, 75, 3), np.uint8)


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_an_ellipse_has_its_eccentricity_and_no_skewness(angle: float) -> None:
    mask = ellipse(angle)
    given = measured(NOISE, mask)
    (region,) = regionprops(label(mask))
    assert given["area"] == pytest.approx(mask.mean(), rel=1e-5)
    assert given["eccentricity"] == pytest.approx(region.eccentricity, abs=0.01)
    assert given["skew_major"] < 0.02
    assert given["skew_minor"] < 0.02


@pytest.mark.parametrize("radius", [4, 8, 15])
def test_a_disc_of_any_size_is_round(radius: int) -> None:
    y, x = np.mgrid[:56, :75]
    given = measured(NOISE, (y - 28) ** 2 + (x - 37) ** 2 <= radius**2)
    assert given["eccentricity"] < 0.03
    assert given["skew_major"] < 0.02


def test_the_axes_of_a_nearly_round_lesion_do_not_hang_on_the_order_of_sums() -> None:
    """They are told apart by small differences of moments, which sums in float32 would blur."""
    y, x = np.mgrid[:112, :150].astype(np.float64)
    angle = np.arctan2(y - 50.3, x - 81.7)
    flat = np.broadcast_to(NOISE[:1, :1], (112, 150, 3)).copy()
    for seed in range(8):
        # Three lobes, and an ellipse so faint that its axes are hard to tell.
        side, turn = np.random.default_rng(seed).uniform(0, np.pi, 2)
        radius = 30 + 4 * np.cos(3 * (angle - side)) + 0.02 * np.cos(2 * (angle - turn))
        mask = np.hypot(y - 50.3, x - 81.7) < radius
        given, mirrored = measured(flat, mask), measured(flat, mask[::-1, ::-1].copy())
        assert mirrored["eccentricity"] == given["eccentricity"]
        assert mirrored["skew_major"] == pytest.approx(given["skew_major"], abs=1e-6)
        assert mirrored["skew_minor"] == pytest.approx(given["skew_minor"], abs=1e-6)


def test_a_drop_is_skewed_along_its_length_however_it_lies() -> None:
    for turn in range(4):
        canvas = np.zeros((56, 56), np.uint8)
        cv2.circle(canvas, (20, 28), 10, 1, -1)
        cv2.line(canvas, (30, 28), (52, 28), 1, 2)
        mask = np.zeros((56, 75), bool)
        mask[:, 10:66] = np.rot90(canvas, turn) > 0
        given = measured(NOISE, mask)
        assert given["skew_major"] > 0.5
        assert given["skew_minor"] < 0.2


def test_colours_are_means_and_deviations_inside() -> None:
    mask = ellipse(20)
    given = measured(NOISE, mask)
    lab = np.floor(color.rgb2lab(NOISE) * STEPS + 0.5)[mask] / STEPS
    for name, values in zip("Lab", lab.T, strict=True):
        assert given[f"lesion_{name}"] == pytest.approx(values.mean(), abs=0.02)
        assert given[f"deviation_{name}"] == pytest.approx(values.std(), abs=0.02)
    hue, saturation, value = color.rgb2hsv(NOISE)[mask].T
    hue = np.minimum(hue, 1 - hue)
    for name, values in (("hue", hue), ("saturation", saturation), ("value", value)):
        assert given[f"mean_{name}"] == pytest.approx(values.mean(), abs=1e-4)
        assert given[f"deviation_{name}"] == pytest.approx(values.std(), abs=1e-4)
    assert given["share_black"] == pytest.approx((lab[:, 0] < 25).mean(), abs=1e-5)
    shares = sum(given[f"cluster{k}_share"] for k in (1, 2, 3))
    assert shares == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_lesion_has_the_same_features(axis: int) -> None:
    drawn = synthetic.lesion("mel", 3, hair=0.0).image[:448]
    image = reduced(torch.from_numpy(drawn)[None], 8)[:, 0].permute(1, 2, 0).numpy()
    image = image.astype(np.uint8)
    plain, mirrored = measured(image), measured(np.flip(image, axis).copy())
    ignored = {"texture"}  # neighbours to the left, of a mask that has an edge
    for name in plain.keys() - ignored:
        assert mirrored[name] == pytest.approx(plain[name], rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_mask_gives_numbers(level: int) -> None:
    given = measured(np.full((56, 75, 3), level, np.uint8))
    assert np.isfinite(list(given.values())).all()
    assert given["area"] == 0.0
    assert all(abs(value) <= 100 for value in given.values()), "within their units"
