"""Ranges of activations, against PyTorch's own fake quantisation of the very values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from classkinfy_export.errors import ExportError
from classkinfy_export.quantization import ranges
from classkinfy_export.quantization.ranges import Values

Draw = Callable[[np.random.Generator], np.ndarray]
DRAWS: dict[str, Draw] = {
    "normal": lambda random: random.normal(0.5, 1.0, 5_000),
    "heavy tails": lambda random: random.standard_t(3, 5_000),
    "cut at 6": lambda random: np.clip(random.normal(1.0, 3.0, 5_000), 0.0, 6.0),
    "swish": lambda random: (lambda x: x / (1.0 + np.exp(-x)))(random.normal(0.0, 4.0, 5_000)),
    "rare and large": lambda random: np.maximum(random.gamma(0.3, 1.0, 5_000) - 0.1, 0.0),
    "below 0": lambda random: -(random.gamma(1.0, 2.0, 5_000)),
}


def photos(draw: Draw, count: int = 4, seed: int = 0) -> list[Values]:
    random = np.random.default_rng(seed)
    return [{"a": draw(random).astype(np.float32).reshape(1, 2, 25, 100)} for _ in range(count)]


def taken(*halves: list[Values]) -> tuple[tuple[float, float], float | None]:
    found, shifts = ranges.take([lambda half=half: iter(half) for half in halves])  # type: ignore[misc]
    return found["a"], shifts.get("a")


def extremes(seen: list[Values]) -> tuple[float, float]:
    values = np.concatenate([of["a"] for of in seen])
    return min(0.0, float(values.min())), max(0.0, float(values.max()))


def error(seen: list[Values], low: float, high: float) -> float:
    """The mean squared error of 8-bit codes, by PyTorch."""
    values = torch.from_numpy(np.concatenate([of["a"] for of in seen]))
    scale = (high - low) / 255
    coded = torch.fake_quantize_per_tensor_affine(values, scale, round(-low / scale), 0, 255)
    return float(((coded - values).double() ** 2).mean())


def weighed(seen: list[Values], low: float, high: float) -> float:
    """The sum of each photo's error over the root of its power."""
    powers = [float((of["a"].astype(np.float64) ** 2).mean()) for of in seen]
    return sum(error([of], low, high) / p**0.5 for of, p in zip(seen, powers, strict=True))


@pytest.mark.parametrize("draw", DRAWS)
def test_no_share_of_the_extremes_codes_values_with_a_lesser_error(draw: str) -> None:
    seen = photos(DRAWS[draw])
    (low, high), _ = taken(seen)
    least, most = extremes(seen)
    assert least <= low <= 0.0 <= high <= most
    shares = np.linspace(0.06, 1.0, 48)
    lows, highs = (shares * end if end else [0.0] for end in (least, most))
    tried = [weighed(seen, a, b) for a in lows for b in highs]
    assert weighed(seen, low, high) <= 1.01 * min(tried)


def test_an_outlier_in_a_million_is_cut_and_values_that_fill_a_range_are_not() -> None:
    seen = photos(lambda random: random.normal(0.0, 1.0, 5_000), count=200)
    seen[7]["a"][0, 0, 0, 0] = 30.0
    (low, high), _ = taken(seen)
    assert high < 15.0
    assert error(seen, low, high) < 0.5 * error(seen, *extremes(seen))
    filled = photos(lambda random: random.uniform(-1.0, 3.0, 5_000))
    assert taken(filled)[0] == pytest.approx(extremes(filled), rel=0.011), "a finest step"


def test_one_photo_of_many_weighs_less_than_by_its_squares() -> None:
    seen = photos(lambda random: random.normal(0.0, 1.0, 5_000), count=100)
    seen[7]["a"][:] *= 20.0
    low, high = taken(seen)[0]
    rest = seen[:7] + seen[8:]
    assert error(rest, low, high) < 0.25 * error(rest, *extremes(seen))
    least, most = extremes(seen)
    shares = np.linspace(0.06, 1.0, 24)
    tried = [weighed(seen, least * a, most * b) for a in shares for b in shares]
    assert weighed(seen, low, high) <= 1.01 * min(tried)


def test_halves_are_united_and_their_scales_compared() -> None:
    narrow = photos(lambda random: random.uniform(0.0, 4.0, 5_000))
    wide = photos(lambda random: random.uniform(0.0, 5.0, 5_000))
    found, shift = taken(narrow, wide)
    assert found == pytest.approx((0.0, 5.0), abs=0.01)
    assert shift == pytest.approx(0.2, abs=0.03)
    assert taken(wide, wide)[1] == 0.0
    assert taken(wide)[1] is None


@pytest.mark.parametrize("value", [0.0, 2.0, -3.0])
def test_a_tensor_of_one_value_has_a_range_that_holds_it(value: float) -> None:
    same: list[Values] = [{"a": np.full((1, 2, 3, 3), value, np.float32)}] * 2
    found, shift = taken(same[:1], same[1:])
    assert found == pytest.approx((min(value, 0.0), max(value, 0.0)))
    assert shift == 0.0


def test_a_half_that_saw_nothing_or_little_is_told_apart() -> None:
    seen = photos(lambda random: random.uniform(0.0, 4.0, 5_000))
    nothing = photos(lambda random: np.zeros(5_000))
    hardly = [{"a": of["a"] * np.float32(1e-12)} for of in seen[:2]]
    assert taken(seen + hardly)[0] == taken(seen)[0], "nor does what is nearly zero"
    assert taken(seen, nothing)[1] == 1.0
    assert taken(seen, nothing)[0] == pytest.approx((0.0, 4.0), abs=0.1), "zeros fit in any range"
    assert taken(nothing, nothing) == ((0.0, 0.0), 0.0)
    little = photos(lambda random: random.uniform(0.0, 0.2, 5_000))
    assert taken(seen, little)[1] == pytest.approx(0.95, abs=0.01)


def test_values_are_counted_in_all_channels_and_columns_whatever_the_layout() -> None:
    values = np.random.default_rng(0).normal(0.0, 1.0, (1, 72, 72, 144)).astype(np.float32)
    values[..., 1::3] *= 8.0
    turned = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    assert values.size > 2 * 65_536, "not all are counted"
    one, two = (taken([{"a": of}])[0] for of in (values, turned))
    share = 0.033 * max(map(abs, extremes([{"a": values}])))
    assert one == pytest.approx(two, abs=1.01 * share)
    assert one[1] > 16.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    seen = photos(DRAWS["normal"])
    seen[2]["a"][0, 0, 3, 3] = bad
    with pytest.raises(ExportError, match="a is NaN or infinite"):
        taken(seen)
