"""The loss against PyTorch's own and against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from classkinfy_export.recipes import FitRecipe
from classkinfy_export.training.loss import Loss

LABELS = np.repeat(np.arange(3), (60, 30, 10))
LOGITS = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 3)))
TARGETS = F.one_hot(torch.from_numpy(LABELS), 3).to(torch.float64)


def loss(**settings: object) -> float:
    made = Loss.of(FitRecipe.model_validate(settings), LABELS, 3)
    return float(made(LOGITS, TARGETS))


def test_smoothed_cross_entropy_is_pytorchs() -> None:
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(LOGITS, torch.from_numpy(LABELS), label_smoothing=smoothing)
        assert loss(label_smoothing=smoothing) == pytest.approx(float(expected), rel=1e-6)


def test_inverse_weights_give_every_class_the_same_say() -> None:
    """As scikit-learn's "balanced" weights: n / (classes * count)."""
    weights = torch.tensor([100 / (3 * count) for count in (60, 30, 10)], dtype=torch.float64)
    expected = F.cross_entropy(LOGITS, torch.from_numpy(LABELS), weight=weights)
    given = loss(class_weights="inverse", label_smoothing=0.0)
    assert given == pytest.approx(float(expected), rel=1e-6)


def test_effective_numbers_lie_between_none_and_inverse() -> None:
    made = Loss.of(FitRecipe(class_weights="effective"), LABELS, 3).weights.numpy()
    expected = 1 / (1 - 0.999 ** np.array([60, 30, 10]))
    np.testing.assert_allclose(made / made[0], expected / expected[0], rtol=1e-5)
    assert (made * [60, 30, 10]).sum() == pytest.approx(100, rel=1e-6)


def test_focal_loss_is_its_formula() -> None:
    logits = LOGITS.numpy()
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = chance[np.arange(100), LABELS]
    expected = (-((1 - own) ** 2) * np.log(own)).mean()
    assert loss(focal=2.0, label_smoothing=0.0) == pytest.approx(expected, rel=1e-6)


def test_a_class_without_images_has_a_finite_weight() -> None:
    made = Loss.of(FitRecipe(class_weights="inverse"), np.zeros(5, np.int64), 3)
    assert torch.isfinite(made.weights).all()


@pytest.mark.parametrize(
    ("sampling", "shares"),
    [
        ("natural", (0.6, 0.3, 0.1)),
        ("square_root", (0.4727, 0.3343, 0.1930)),
        ("balanced", (1 / 3,) * 3),
    ],
)
def test_logit_adjustment_adds_the_log_of_what_is_drawn(
    sampling: str, shares: tuple[float, ...]
) -> None:
    """Menon et al., 2021, equation 10."""
    shifted = LOGITS + 0.5 * torch.log(torch.tensor(shares, dtype=torch.float64))
    expected = F.cross_entropy(shifted, torch.from_numpy(LABELS))
    given = loss(sampling=sampling, logit_adjustment=0.5, label_smoothing=0.0)
    assert given == pytest.approx(float(expected), rel=1e-4)
    assert given == pytest.approx(loss(label_smoothing=0.0), rel=1e-6) or sampling != "balanced"
