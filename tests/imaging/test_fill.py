"""Filling: exact integers, known pixels untouched, and closer to bare skin than hair is."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import fill as oracle
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from classkinfy_export.data import dermoscope
from classkinfy_export.data.synthetic import CLASSES, lesion
from classkinfy_export.frame import list_images
from classkinfy_export.imaging.fill import pull_push
from classkinfy_export.imaging.gray import gray
from classkinfy_export.stages.prepare import hair_mask

Pixels = npt.NDArray[np.uint8]
Known = npt.NDArray[np.bool_]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "HAM10000"


def planes(image: Pixels, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[:, None].to(dtype)


def filled(
    image: Pixels, known: Known, levels: int = 5, dtype: torch.dtype = torch.float32
) -> npt.NDArray[np.generic]:
    exact = dtype if dtype.is_floating_point else torch.float32
    hole = torch.from_numpy(~known)[None, None].to(exact)
    return pull_push(planes(image, dtype), hole, levels)[:, 0].permute(1, 2, 0).numpy()


@functools.cache
def cases() -> dict[str, tuple[Pixels, Known]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (77, 103, 3), np.uint8)
    bits = (rng.integers(0, 2, (64, 96, 3)) * 255).astype(np.uint8)
    hole = np.ones((77, 103), np.bool_)
    hole[10:70, 20:90] = False
    border = np.ones((77, 103), np.bool_)
    border[:3] = border[:, -4:] = False
    corner = np.zeros((64, 96), np.bool_)
    corner[0, 0] = True
    hairy = lesion("mel", 4, height=90, width=120, hair=1.0)
    return {
        "sprinkled": (noise, rng.random((77, 103)) < 0.5),
        "sparse": (noise, rng.random((77, 103)) < 0.01),
        "wide hole": (noise, hole),
        "hair at the border": (noise, border),
        "one known pixel": (bits, corner),
        "nothing known": (bits, np.zeros((64, 96), np.bool_)),
        "all known": (bits, np.ones((64, 96), np.bool_)),
        "hair": (hairy.image, hairy.hair == 0),
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", cases())
def test_the_bytes_are_those_of_an_integer_pyramid_in_numpy(name: str, dtype: torch.dtype) -> None:
    image, known = cases()[name]
    given = filled(image, known, dtype=dtype)
    np.testing.assert_array_equal(given, oracle.pull_push(image, known, levels=5))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 21), st.integers(1, 21)),
    levels=st.integers(1, 5),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_the_bytes_are_those_of_an_integer_pyramid_at_any_size_and_depth(
    size: tuple[int, int], levels: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, known = rng.integers(0, 256, (*size, 3), np.uint8), rng.random(size) < share
    wanted = oracle.pull_push(image, known, levels)
    for dtype in (torch.uint8, torch.float32):
        np.testing.assert_array_equal(filled(image, known, levels, dtype), wanted)


@pytest.mark.parametrize("name", cases())
def test_known_pixels_stay_and_the_rest_are_integers_from_0_to_255(name: str) -> None:
    image, known = cases()[name]
    given = filled(image, known)
    np.testing.assert_array_equal(given[known], image[known])
    np.testing.assert_array_equal(given, np.clip(np.floor(given), 0, 255))


@pytest.mark.parametrize("name", cases())
def test_float64_changes_no_byte(name: str) -> None:
    image, known = cases()[name]
    np.testing.assert_array_equal(filled(image, known), filled(image, known, dtype=torch.float64))


@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_a_constant_image_stays_constant(level: int) -> None:
    for name, (image, known) in cases().items():
        if known.any():
            constant = np.full_like(image, level)
            np.testing.assert_array_equal(filled(constant, known), constant, err_msg=name)


def test_what_is_under_the_hair_does_not_matter() -> None:
    for name, (image, known) in cases().items():
        other = np.where(known[..., None], image, 255 - image)
        np.testing.assert_array_equal(filled(image, known), filled(other, known), err_msg=name)


def test_a_hole_in_a_ramp_is_closed_nearer_than_by_its_mean() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None] * 4, (1, 64))[..., None].repeat(3, axis=2)
    known = np.ones((64, 64), np.bool_)
    known[20:44, 20:44] = False
    error = np.abs(filled(ramp, known) - ramp)[~known].mean()
    by_mean = np.abs(ramp[known].mean() - ramp[~known]).mean()
    assert error < by_mean / 2


def psnr_db(truth: Pixels, image: npt.NDArray[np.generic], where: Known) -> float:
    given = image[where].astype(np.uint8)
    return float(peak_signal_noise_ratio(truth[where], given, data_range=255))


@pytest.mark.parametrize("dx", CLASSES)
def test_filled_hair_is_closer_to_the_bare_lesion_than_hair_is(
    dx: str,
) -> None:
    bare, hairy = lesion(dx, 2, hair=0.0), lesion(dx, 2, hair=1.0)
    found = hair_mask(gray(planes(hairy.image)))[0, 0].numpy() > 0
    for name, hair in {"painted": hairy.hair > 0, "found": found}.items():
        assert hair.any()
        left = psnr_db(bare.image, hairy.image, hair)
        ours = psnr_db(bare.image, filled(hairy.image, ~hair), hair)
        telea = psnr_db(bare.image, oracle.telea(hairy.image, ~hair), hair)
        # Told (--log-cli-level=info), not held: Telea orders pixels by a heap, no static graph can.
        logging.info("%s, %s hair: %.1f, %.1f, Telea %.1f dB", dx, name, left, ours, telea)
        assert ours > left


def bare_photos(count: int) -> list[Pixels]:
    """Photos with next to no hair: at most one pixel in fifty is under what looks like it."""
    found: list[Pixels] = []
    for path in list_images(SHARED)[::40]:
        image = np.array(Image.open(path))
        if float(hair_mask(gray(planes(image))).mean()) <= 0.02:
            found.append(image)
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} bare photos")


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_hair_painted_on_real_skin_is_filled_at_least_as_well_as_by_telea() -> None:
    ours: dict[str, list[float]] = {"painted": [], "found": []}
    telea: dict[str, list[float]] = {"painted": [], "found": []}
    apart = []
    for seed, bare in enumerate(bare_photos(12)):
        hairy = bare.transpose(2, 0, 1).astype(np.float32)
        painted = dermoscope.hair(np.random.default_rng(seed), hairy, 1.0) > 0
        image = np.rint(np.clip(hairy, 0, 255)).astype(np.uint8).transpose(1, 2, 0).copy()
        found = hair_mask(gray(planes(image)))[0, 0].numpy() > 0
        for name, hair in (("painted", painted), ("found", found)):
            given, other = filled(image, ~hair), oracle.telea(image, ~hair)
            ours[name].append(psnr_db(bare, given, hair))
            telea[name].append(psnr_db(bare, other, hair))
            apart.append(np.abs(given[hair].astype(int) - other[hair]).mean())
    for name in ours:
        means = float(np.mean(ours[name])), float(np.mean(telea[name]))
        logging.info("%s hair: %.2f dB, Telea %.2f dB", name, *means)
        assert means[0] >= means[1]
    logging.info("levels between ours and Telea's: %.2f on average", np.mean(apart))
