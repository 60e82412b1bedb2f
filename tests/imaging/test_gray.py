"""Gray is OpenCV's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from oracles import gray as oracle

from classkinfy_export.imaging.gray import gray


def planes(rgb: npt.NDArray[np.uint8], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(1).to(dtype)


def test_gray_is_opencvs_on_each_of_the_2_to_the_24_colours() -> None:
    for red in range(256):
        colours = oracle.every_colour(red)
        wanted = oracle.gray(colours)
        for dtype in (torch.uint8, torch.float32):
            given = gray(planes(colours, dtype))[0, 0].numpy()
            np.testing.assert_array_equal(given, wanted, err_msg=f"red {red}, {dtype}")


def test_gray_is_the_same_in_float64() -> None:
    for red in range(0, 256, 15):
        colours = oracle.every_colour(red)
        wide = gray(planes(colours, torch.float64))
        assert torch.equal(gray(planes(colours)).double(), wide)


def test_gray_of_gray_is_itself_and_keeps_batch_and_size() -> None:
    level = torch.arange(256, dtype=torch.float32).reshape(2, 1, 8, 16)
    assert torch.equal(gray(level.reshape(1, 2, 8, 16).expand(3, 2, 8, 16)), level)


def test_the_largest_sum_is_exact_in_float32() -> None:
    largest = 255 * (9798 + 19235 + 3735) + 16384
    assert 9798 + 19235 + 3735 == 32768
    assert largest < 2**24
