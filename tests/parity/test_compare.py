"""Differences of tensors, against NumPy, SciPy and plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import entropy

from classkinfy_export.parity.compare import Difference, TensorParity, difference, summarise


def summed(pairs: list[tuple[str, Difference]], tolerance: float = 0.5) -> TensorParity:
    return summarise(
        pairs,
        runtime="r",
        precision="fp32",
        form="staged",
        reference="pytorch",
        stage="classify",
        tensor="t",
        gate="tensors",
        tolerance=tolerance,
    )


def test_figures_are_numpys_and_scipys() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(5, 1, 8)).astype(np.float32)
    given = wanted + rng.normal(size=(5, 1, 8)).astype(np.float32) * np.float32(0.1)
    found = summed([(f"image{n}", difference(wanted[n], given[n])) for n in range(5)])
    w, g = wanted.astype(np.float64), given.astype(np.float64)
    error = np.abs(w - g)
    worst = np.unravel_index(error.argmax(), error.shape)
    assert found.minimum_tolerance == error.max()
    assert found.mean_error == pytest.approx(error.mean(), rel=1e-12)
    assert (found.worst_image, *found.worst_index) == (f"image{worst[0]}", *worst[1:])
    assert (found.expected, found.actual) == (w[worst], g[worst])
    assert found.sqnr_db == pytest.approx(10 * np.log10((w**2).sum() / ((w - g) ** 2).sum()))
    assert found.cosine == pytest.approx(1 - cosine(w.ravel(), g.ravel()))
    assert found.divergence is None
    assert found.passed == (error.max() <= 0.5)
    assert not summed([("image", difference(wanted, given))], error.max() * 0.999).passed


def test_divergence_is_scipys_of_the_worst_image() -> None:
    rng = np.random.default_rng(1)
    wanted, given = rng.dirichlet(np.ones(7), (2, 4)).astype(np.float32)
    pairs = [
        (str(n), difference(wanted[n : n + 1], given[n : n + 1], distribution=True))
        for n in range(4)
    ]
    worst = entropy(wanted.astype(float), given.astype(float), axis=1).max()
    assert summed(pairs).divergence == pytest.approx(worst, rel=1e-5)


def test_equal_tensors_have_no_noise() -> None:
    values = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    found = summed([("image", difference(values, values.copy()))], 0.0)
    assert (found.minimum_tolerance, found.mean_error, found.sqnr_db) == (0.0, 0.0, None)
    assert found.cosine == pytest.approx(1.0)
    assert found.passed


def test_nan_is_equal_to_nan_where_it_may_be_and_infinitely_far_from_a_number() -> None:
    nan, one = np.full((1, 3), np.nan, np.float32), np.ones((1, 3), np.float32)
    for wanted, given, distance in ((nan, nan, 0.0), (nan, one, np.inf), (one, nan, np.inf)):
        assert difference(wanted, given, nan_is_equal=True).largest == distance
    assert difference(nan, nan).largest == np.inf, "only what is not graded may be NaN"
    assert difference(one, one.astype(np.float64)).largest == np.inf, "another dtype"
    assert difference(one, one[:, :2]).largest == np.inf, "another shape"
