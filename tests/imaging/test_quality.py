"""Quality measures: OpenCV's sharpness, NumPy's share, and the documented rounding to the bit."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import gray as luma
from oracles import quality as oracle

from classkinfy_export.data.synthetic import CLASSES, lesion
from classkinfy_export.imaging.quality import share, sharpness

ULP = 2.0**-24
"""The relative error of one float32 rounding."""


def tensor(gray: npt.NDArray[np.generic], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(gray))[None, None].to(dtype)


def checkerboard(height: int, width: int) -> npt.NDArray[np.uint8]:
    return (np.indices((height, width)).sum(axis=0) % 2 * 255).astype(np.uint8)


@functools.cache
def pictures() -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    one_off = np.full((450, 600), 120, np.uint8)
    one_off[200, 300] += 1
    corner = np.zeros((450, 600), np.uint8)
    corner[0, 0] = 255
    images = {
        "noise": rng.integers(0, 256, (450, 600), np.uint8),
        "bits": (rng.integers(0, 2, (450, 600)) * 255).astype(np.uint8),
        "one level off": one_off,
        "bright corner": corner,
        "ramp": np.tile(np.linspace(0, 255, 600).astype(np.uint8), (450, 1)),
        "odd": rng.integers(0, 256, (97, 131), np.uint8),
        "tiny": rng.integers(0, 256, (2, 3), np.uint8),
        "checkerboard": checkerboard(450, 600),
        "odd checkerboard": checkerboard(97, 131),
    }
    return images | {dx: luma.gray(lesion(dx, 1, hair=0.5).image) for dx in CLASSES}


@pytest.mark.parametrize("name", pictures())
def test_sharpness_is_opencvs_laplacian_variance_within_a_thousandth(name: str) -> None:
    gray = pictures()[name]
    assert sharpness(tensor(gray)).item() == pytest.approx(oracle.sharpness(gray), rel=1e-3)


@pytest.mark.parametrize("name", pictures())
def test_sharpness_is_the_integers_rounded_as_documented_to_the_bit(name: str) -> None:
    gray = pictures()[name]
    given = sharpness(tensor(gray)).numpy()
    assert given.dtype == np.float32
    assert given[0].tobytes() == oracle.rounded_sharpness(gray).tobytes()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=40)))
def test_sharpness_of_any_image_is_the_integers_rounded_as_documented(
    gray: npt.NDArray[np.uint8],
) -> None:
    given = sharpness(tensor(gray)).numpy()[0]
    assert given.tobytes() == oracle.rounded_sharpness(gray).tobytes()


def test_a_checkerboard_of_black_and_white_is_the_sharpest_there_is() -> None:
    # Every Laplacian is 4 * 255 up or down; sums of 16 squares are as large as they can be.
    assert 16 * 1020**2 < 2**24
    assert sharpness(tensor(checkerboard(450, 600))).item() == 1020.0**2


@pytest.mark.parametrize("size", [(450, 600), (96, 128), (97, 131), (2, 2), (1000, 1040)])
def test_a_constant_image_has_sharpness_exactly_0(size: tuple[int, int]) -> None:
    for level in (0, 127, 255):
        assert sharpness(tensor(np.full(size, level, np.uint8))).item() == 0.0


@pytest.mark.parametrize("name", ["noise", "bits", "mel", "nv"])
def test_mirroring_an_image_changes_no_bit_of_its_sharpness(name: str) -> None:
    gray = pictures()[name][:, :592]  # whole runs of 16 pixels, whichever end they start from
    given = sharpness(tensor(gray))
    for mirrored in (gray[::-1], gray[:, ::-1], gray[::-1, ::-1]):
        assert torch.equal(sharpness(tensor(mirrored)), given)


@pytest.mark.parametrize("name", pictures())
def test_float64_moves_sharpness_by_its_few_roundings_only(name: str) -> None:
    # Two roundings join three digits, one takes the mean, one the difference; the square of the
    # mean is less than a millionth of the rest, or the image tiny and its sums exact.
    gray = pictures()[name]
    wide = sharpness(tensor(gray, torch.float64)).item()
    assert sharpness(tensor(gray)).item() == pytest.approx(wide, rel=5 * ULP)


def test_images_of_a_batch_are_measured_apart() -> None:
    images = [pictures()[name] for name in ("noise", "mel", "checkerboard")]
    batch = torch.cat([tensor(gray) for gray in images])
    assert torch.equal(sharpness(batch), torch.cat([sharpness(tensor(gray)) for gray in images]))
    bright = (batch > 127).float()
    assert torch.equal(share(bright), torch.cat([share(one) for one in bright.split(1)]))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    size=st.sampled_from([(450, 600), (96, 128), (97, 131), (480, 640), (1, 7), (1536, 2048)]),
    where=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_share_is_numpys_mean_within_one_ulp(
    size: tuple[int, int], where: float, seed: int
) -> None:
    selected = np.random.default_rng(seed).random(size) < where
    wanted = np.float32(selected.mean())
    given = share(tensor(selected)).numpy()[0]
    assert abs(int(given.view(np.int32)) - int(wanted.view(np.int32))) <= 1


def test_share_is_0_of_nothing_and_1_of_everything() -> None:
    for size in ((450, 600), (96, 128), (97, 131), (480, 640), (300, 400), (768, 1024)):
        assert share(torch.zeros(1, 1, *size)).item() == 0.0
        assert share(torch.ones(1, 1, *size)).item() == 1.0


def test_share_is_the_same_in_float64_once_rounded_and_in_any_order() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((450, 600), (97, 131)):
        selected = rng.random((height, width)) < 0.37
        given = share(tensor(selected))
        assert torch.equal(share(tensor(selected, torch.float64)).float(), given)
        shuffled = rng.permutation(selected.reshape(-1)).reshape(height, width)
        assert torch.equal(share(tensor(shuffled)), given)
