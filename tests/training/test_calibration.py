"""Temperature and weight on answers of known ones, and the head that takes the first in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax, softmax

from classkinfy_export.stages.network import make_head
from classkinfy_export.training import calibration, metrics


def unsure(count: int, classes: int) -> npt.NDArray[np.float32]:
    """Return a screen's answers that say nothing."""
    return np.full((count, classes), 1 / classes, np.float32)


@pytest.mark.parametrize("wanted", [0.5, 1.0, 3.0])
def test_an_overconfident_network_is_found_out_and_put_right(wanted: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(scale=2.0, size=(4000, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(true, axis=1)])
    logits = (true * wanted).astype(np.float32)
    found = calibration.fit(logits, labels, unsure(4000, 5)).temperature
    assert found == pytest.approx(wanted, rel=0.06)
    after = metrics.calibration_error(labels, softmax(logits / np.float32(found), axis=1))
    assert after < 0.02
    if wanted != 1.0:
        assert metrics.calibration_error(labels, softmax(logits, axis=1)) > 2 * after


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
def test_a_screen_is_weighed_by_what_it_knows(weight: float) -> None:
    rng = np.random.default_rng(1)
    network, screen = rng.normal(scale=1.5, size=(2, 6000, 4))
    chances = softmax(network + weight * screen, axis=1)
    labels = np.array([rng.choice(4, p=p) for p in chances])
    seen = softmax(screen, axis=1).astype(np.float32)
    found = calibration.fit((network * 2).astype(np.float32), labels, seen)
    assert found.temperature == pytest.approx(2, rel=0.06)
    assert found.screen_weight == pytest.approx(weight, abs=0.05)


def test_no_other_pair_on_a_grid_is_likelier() -> None:
    rng = np.random.default_rng(2)
    network, screen = rng.normal(size=(2, 300, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(network + 0.5 * screen, axis=1)])
    seen = softmax(screen, axis=1)
    targets = (300 * np.eye(3)[labels] + 1) / 303

    def loss(temperature: float, weight: float) -> float:
        logits = network / temperature + weight * np.log(seen)
        return float(-(targets * log_softmax(logits, axis=1)).sum(axis=1).mean())

    found = calibration.fit(network.astype(np.float32), labels, seen.astype(np.float32))
    grid = [loss(t, w) for t in np.geomspace(0.2, 5, 60) for w in np.linspace(0, 1, 60)]
    assert loss(*found) <= min(grid) + 1e-7


@pytest.mark.parametrize("number", [1, 3, 50])
def test_images_that_are_all_right_give_platts_targets(number: int) -> None:
    labels = np.arange(number) % 3
    logits = np.eye(3, dtype=np.float32)[labels]
    found = calibration.fit(logits, labels, unsure(number, 3))
    told = softmax(logits / found.temperature, axis=1).max(axis=1)
    assert told == pytest.approx(np.full(number, (number + 1) / (number + 3)), abs=1e-4)


def test_extremes_and_nothing_give_finite_numbers() -> None:
    right, every = np.eye(3, dtype=np.float32), np.arange(3)
    assert calibration.fit(right / 100, every, unsure(3, 3)).temperature == pytest.approx(0.1)
    assert calibration.fit(-right, every, unsure(3, 3)).temperature == pytest.approx(10)
    assert calibration.fit(right[:0], every[:0], unsure(0, 3)) == (1.0, 0.0)
    misleads = calibration.fit(0 * right, every, 1 - right)
    assert misleads.screen_weight == 0
    # Of one that is always sure and right: all three right have a chance of 4 in 6.
    sure = calibration.fit(0 * right, every, right)
    assert sure.screen_weight == pytest.approx(np.log(4) / np.log(1e4), rel=1e-3)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_head_takes_it_in_and_decides_as_before(kind: str) -> None:
    head, embeddings = make_head(kind, 8, 3).eval(), torch.randn(64, 8)
    before = head(embeddings)
    calibration.fold(head, 2.5)
    torch.testing.assert_close(head(embeddings), before / 2.5)
    assert torch.equal(head(embeddings).argmax(dim=1), before.argmax(dim=1))
