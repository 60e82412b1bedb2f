"""The exact resize: its weights, an oracle in Python's integers, and Pillow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import resize as oracle

from classkinfy_export import resampling
from classkinfy_export.data.synthetic import CLASSES, lesion

# (from, to): the networks' sizes, phones' photos, enlargements, ratios with equal remainders.
AXES = [
    *((450, n) for n in (224, 240, 260, 300)),
    *((600, n) for n in (224, 240, 260, 300)),
    (4032, 600),
    (3024, 450),
    (1023, 600),
    (96, 224),
    (128, 300),
    (1, 5),
    (5, 1),
    (7, 7),
    # Equal remainders, where doubles had to choose: a loop over taps and NumPy chose differently.
    (17, 6),
    (34, 6),
    (49, 5),
    (51, 9),
    (68, 12),
]
Pixels = npt.NDArray[np.uint8]


@pytest.mark.parametrize(("in_size", "out_size"), AXES)
def test_weights_are_the_fractions_of_the_triangle_in_whole_65536ths(
    in_size: int, out_size: int
) -> None:
    given = resampling.matrix(in_size, out_size)
    wanted = np.zeros((out_size, in_size))
    for i, row in enumerate(oracle.weights(in_size, out_size)):
        for x, weight in row.items():
            wanted[i, x] = weight
    np.testing.assert_array_equal(given, wanted)


side = st.integers(1, 90)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(in_size=side, out_size=side)
def test_weights_sum_to_65536_are_not_negative_and_within_a_step_of_the_triangle(
    in_size: int, out_size: int
) -> None:
    _, weights = resampling.taps(in_size, out_size)
    assert weights.min() >= 0
    np.testing.assert_array_equal(weights.sum(axis=1), 65536)
    dense = resampling.matrix(in_size, out_size)
    for row, wanted in zip(dense, oracle.triangle(in_size, out_size), strict=True):
        for x in range(in_size):
            assert abs(int(row[x]) - 65536 * wanted.get(x, 0)) < 1


def test_no_partial_sum_reaches_2_to_the_24() -> None:
    # Weights are not negative and sum to 65536, so any part of them, times bytes, is at most
    # this; the half for rounding is added to it.
    assert 65536 * 255 + 32768 < 2**24
    for in_size, out_size in AXES:
        _, weights = resampling.taps(in_size, out_size)
        assert (weights.cumsum(axis=1) * 255 + 32768).max() < 2**24


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("in_size", "out_size"),
    [
        ((45, 60), (30, 30)),
        ((45, 60), (22, 24)),
        ((45, 60), (26, 26)),
        ((17, 34), (6, 6)),
        ((9, 12), (30, 31)),
        ((45, 60), (45, 22)),
        ((45, 60), (26, 60)),
        ((1, 1), (3, 4)),
        ((51, 49), (9, 5)),
    ],
)
def test_resize_is_python_integers_byte_for_byte(
    in_size: tuple[int, int], out_size: tuple[int, int]
) -> None:
    pictures = [
        noise(*in_size),
        lesion("mel", 1, height=64, width=64, hair=1.0).image[: in_size[0], : in_size[1]],
        np.full((*in_size, 3), 255, np.uint8),
    ]
    for image in pictures:
        wanted = oracle.resize(image, *out_size)
        np.testing.assert_array_equal(resampling.resize(image, *out_size), wanted)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    in_size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    out_size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    seed=st.integers(0, 99),
)
def test_resize_is_python_integers_at_any_sizes(
    in_size: tuple[int, int], out_size: tuple[int, int], seed: int
) -> None:
    image = noise(*in_size, seed)
    wanted = oracle.resize(image, *out_size)
    np.testing.assert_array_equal(resampling.resize(image, *out_size), wanted)


@pytest.fixture(scope="module")
def lesions() -> list[Pixels]:
    """Two of each class, at the capture's size."""
    return [lesion(dx, seed, hair=0.5).image for dx in CLASSES for seed in (5, 6)]


def difference(image: Pixels, height: int, width: int) -> npt.NDArray[np.int16]:
    ours = resampling.resize(image, height, width).astype(np.int16)
    return np.abs(ours - oracle.pillow(image, height, width))


def test_at_300_from_the_capture_every_pixel_is_pillows(lesions: list[Pixels]) -> None:
    for image in [*lesions, noise(450, 600)]:
        assert difference(image, 300, 300).max() == 0


@pytest.mark.parametrize("size", [224, 240, 260])
def test_of_lesions_at_most_one_pixel_in_a_thousand_differs_from_pillows_by_one_level(
    lesions: list[Pixels], size: int
) -> None:
    differences = np.stack([difference(image, size, size) for image in lesions])
    assert differences.max() <= 1
    assert (differences > 0).mean() <= 1e-3


@pytest.mark.parametrize(("in_size", "out_size"), [a for a in AXES if a[0] <= 600])
def test_one_pass_is_off_the_exact_value_by_the_weights_rounding_and_its_own_half(
    in_size: int, out_size: int
) -> None:
    row = noise(1, in_size)
    exact, bound = np.zeros((out_size, 3)), np.zeros((out_size, 1))
    given = resampling.resize(row, 1, out_size)[0]
    rounded = resampling.matrix(in_size, out_size)
    for i, weights in enumerate(oracle.triangle(in_size, out_size)):
        for x, weight in weights.items():
            exact[i] += float(weight) * row[0, x]
            # Errors of a row's weights sum to 0: at worst those above meet white, the rest black.
            bound[i] += 255 * max(float(rounded[i, x]) / 65536 - float(weight), 0.0)
    assert (np.abs(given - exact) <= 0.5 + bound + 1e-9).all()
    assert bound.max() < 0.02 or out_size == 1


@pytest.mark.parametrize(
    ("in_size", "out_size"),
    [((96, 128), (450, 600)), ((96, 128), (300, 300)), ((450, 600), (700, 900))],
)
def test_enlarging_stays_within_pillows_two_roundings(
    in_size: tuple[int, int], out_size: tuple[int, int]
) -> None:
    # Each pass rounds a value that is a hair off Pillow's: one level a pass, in ties mostly.
    for image in (lesion("bkl", 1, height=in_size[0], width=in_size[1]).image, noise(*in_size)):
        off = difference(image, *out_size)
        assert off.max() <= 2
        assert (off > 0).mean() < 0.05


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_constant_image_stays_constant(level: int) -> None:
    image = np.full((45, 60, 3), level, np.uint8)
    for size in ((22, 22), (26, 30), (100, 90), (45, 1)):
        np.testing.assert_array_equal(
            resampling.resize(image, *size), np.full((*size, 3), level, np.uint8)
        )


def test_the_same_size_is_the_same_picture() -> None:
    image = noise(45, 60)
    np.testing.assert_array_equal(resampling.resize(image, 45, 60), image)


def test_a_view_with_other_strides_resizes_like_its_copy() -> None:
    view = noise(60, 45).swapaxes(0, 1)[::-1, ::2, ::-1]
    copy = np.ascontiguousarray(view)
    np.testing.assert_array_equal(resampling.resize(view, 20, 20), resampling.resize(copy, 20, 20))


def test_cached_weights_cannot_be_written_to() -> None:
    for table in resampling.taps(45, 30):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[h, w, c\], got float32 \[4, 4, 3\]"):
        resampling.resize(np.zeros((4, 4, 3), np.float32), 2, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got uint8 \[4, 4\]"):
        resampling.resize(np.zeros((4, 4), np.uint8), 2, 2)
    with pytest.raises(ValueError, match="sizes must be positive, got 4 -> 0"):
        resampling.taps(4, 0)
