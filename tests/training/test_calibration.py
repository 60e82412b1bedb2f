"""Temperature on logits of a known one, and the head that takes it in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from classkinfy_export.stages.network import make_head
from classkinfy_export.training import calibration, metrics


@pytest.mark.parametrize("wanted", [0.5, 1.0, 3.0])
def test_an_overconfident_network_is_found_out_and_put_right(wanted: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(scale=2.0, size=(4000, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(true, axis=1)])
    logits = (true * wanted).astype(np.float32)
    found = calibration.temperature(logits, labels)
    assert found == pytest.approx(wanted, rel=0.06)
    after = metrics.calibration_error(labels, softmax(logits / np.float32(found), axis=1))
    assert after < 0.02
    if wanted != 1.0:
        assert metrics.calibration_error(labels, softmax(logits, axis=1)) > 2 * after


@pytest.mark.parametrize("number", [1, 3, 50])
def test_images_that_are_all_right_give_platts_targets(number: int) -> None:
    labels = np.arange(number) % 3
    logits = np.eye(3, dtype=np.float32)[labels]
    told = softmax(logits / calibration.temperature(logits, labels), axis=1).max(axis=1)
    assert told == pytest.approx(np.full(number, (number + 1) / (number + 3)), abs=1e-4)


def test_extremes_and_nothing_give_a_finite_temperature() -> None:
    right = np.eye(3, dtype=np.float32)
    assert calibration.temperature(right / 100, np.arange(3)) == pytest.approx(0.1, rel=1e-3)
    assert calibration.temperature(-right, np.arange(3)) == pytest.approx(10, rel=1e-3)
    assert calibration.temperature(right[:0], np.arange(0)) == 1.0


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_head_takes_it_in_and_decides_as_before(kind: str) -> None:
    head, embeddings = make_head(kind, 8, 3).eval(), torch.randn(64, 8)
    before = head(embeddings)
    calibration.fold(head, 2.5)
    torch.testing.assert_close(head(embeddings), before / 2.5)
    assert torch.equal(head(embeddings).argmax(dim=1), before.argmax(dim=1))
