"""Figures equal scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from classkinfy_export.training.metrics import summarise

NAMES = ("a", "b", "c")


def test_figures_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet((1, 1, 1), 200).astype(np.float32)
    probabilities[np.arange(200), labels] += 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    figures = summarise(labels, probabilities, NAMES)
    assert figures["n"] == 200
    assert figures["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert figures["balanced_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(labels, predicted)
    )
    assert figures["auroc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        abs=1e-6,
    )


def test_a_part_with_one_class_has_no_auroc_and_an_empty_one_has_nothing() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], np.float32)
    figures = summarise(np.array([0, 0]), probabilities, NAMES)
    assert figures["auroc"] is None
    assert figures["balanced_accuracy"] == 0.5
    assert summarise(np.array([], np.int64), np.zeros((0, 3), np.float32), NAMES) == {"n": 0}
