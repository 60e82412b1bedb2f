"""Black-hat is OpenCV's, at the border too."""

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
from oracles import morphology as oracle

from classkinfy_export.data.synthetic import lesion
from classkinfy_export.imaging.morphology import black_hat

WINDOWS = (3, 5, 9, 11)
FORMS = (torch.uint8, torch.float32)


def ours(
    gray: npt.NDArray[np.uint8], window: int, dtype: torch.dtype = torch.float32
) -> npt.NDArray[np.generic]:
    return black_hat(torch.from_numpy(gray)[None, None].to(dtype), window)[0, 0].numpy()


@functools.cache
def pictures() -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    images = {
        "black": np.zeros((40, 60), np.uint8),
        "white": np.full((40, 60), 255, np.uint8),
        "noise": rng.integers(0, 256, (90, 120), np.uint8),
        "bits": (rng.integers(0, 2, (90, 120)) * 255).astype(np.uint8),
        "odd": rng.integers(0, 256, (61, 83), np.uint8),
        "smaller than the window": rng.integers(0, 256, (4, 7), np.uint8),
        "one pixel": np.array([[7]], np.uint8),
        "one row": rng.integers(0, 256, (1, 50), np.uint8),
        "lesion": luma.gray(lesion("mel", 3, hair=1.0).image),
    }
    skin = rng.integers(150, 220, (90, 120), np.uint8)
    at_border, thin, bright = skin.copy(), skin.copy(), skin.copy()
    at_border[0] = at_border[-1] = at_border[:, 0] = at_border[:, -1] = 10
    at_border[:, 1] = at_border[2, :] = 0
    thin[:, 57] = 0
    thin[44, :] = 5
    np.fill_diagonal(thin, 3)
    bright[:, 3] = bright[-2, :] = 255
    return images | {"hair at the border": at_border, "one-pixel hair": thin, "glare": bright}


@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", pictures())
def test_black_hat_is_opencvs_bit_for_bit(name: str, window: int, dtype: torch.dtype) -> None:
    image = pictures()[name]
    np.testing.assert_array_equal(ours(image, window, dtype), oracle.black_hat(image, window))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    image=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)),
    window=st.integers(0, 8).map(lambda r: 2 * r + 1),
)
def test_black_hat_is_opencvs_on_any_image_and_odd_window(
    image: npt.NDArray[np.uint8], window: int
) -> None:
    for dtype in FORMS:
        np.testing.assert_array_equal(ours(image, window, dtype), oracle.black_hat(image, window))


@pytest.mark.parametrize("window", WINDOWS)
def test_black_hat_is_the_same_in_float64(window: int) -> None:
    for name, image in pictures().items():
        wide = ours(image, window, torch.float64)
        np.testing.assert_array_equal(ours(image, window), wide, err_msg=name)


def test_images_of_a_batch_do_not_touch() -> None:
    noise = torch.randint(0, 256, (3, 1, 20, 30), generator=torch.Generator().manual_seed(0))
    for dtype in FORMS:
        batch = noise.to(dtype)
        alone = torch.cat([black_hat(image, 9) for image in batch.split(1)])
        assert torch.equal(black_hat(batch, 9), alone)


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be odd, got 8"):
        black_hat(torch.zeros(1, 1, 20, 20), 8)
