"""What changed between two classifiers, against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn import metrics

from classkinfy_export.evaluation.paired import compare
from classkinfy_export.taxonomy import Taxonomy

TAXONOMY = Taxonomy()
MALIGNANT = [TAXONOMY.index(dx) for dx in TAXONOMY.malignant]
N, CLASSES = 400, len(TAXONOMY.classes)


def answers(seed: int, skill: float, labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, CLASSES)) + skill * np.eye(CLASSES)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_changes_are_those_of_scikit_learns_figures() -> None:
    labels = np.random.default_rng(0).integers(0, CLASSES, N)
    lesions = [str(n // 2) for n in range(N)]
    before, after = answers(1, 3.0, labels), answers(2, 1.5, labels)
    found = compare(labels, lesions, before, after, TAXONOMY, resamples=300)
    assert (found.images, found.lesions) == (N, N // 2)
    for side, given in (("before", before), ("after", after)):
        said = given.argmax(axis=1)
        oracle = {
            "accuracy": metrics.accuracy_score(labels, said),
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, said),
            "auroc": metrics.roc_auc_score(labels, given, multi_class="ovr"),
            "recall/mel": metrics.recall_score(labels == 4, said == 4),
            "sensitivity": metrics.recall_score(
                np.isin(labels, MALIGNANT), np.isin(said, MALIGNANT)
            ),
            "specificity": metrics.recall_score(
                ~np.isin(labels, MALIGNANT), ~np.isin(said, MALIGNANT)
            ),
        }
        for name, value in oracle.items():
            assert getattr(found.changes[name], side) == pytest.approx(value), name
    for name, change in found.changes.items():
        value, low, high = change.change
        assert value == pytest.approx(change.after - change.before)
        assert low < value < high, name
    worse = found.changes["balanced_accuracy"].change
    assert worse.high < 0, "much worse, and 400 images show it"
    right, right_after = before.argmax(axis=1) == labels, after.argmax(axis=1) == labels
    assert found.lost == (right & ~right_after).sum()
    assert found.gained == (~right & right_after).sum()
    assert found.mcnemar_p < 1e-6


def test_the_same_answers_change_nothing() -> None:
    labels = np.random.default_rng(3).integers(0, CLASSES, N)
    given = answers(4, 2.0, labels)
    found = compare(labels, [str(n) for n in range(N)], given, given, TAXONOMY, resamples=50)
    assert all(change.change == (0.0, 0.0, 0.0) for change in found.changes.values())
    assert (found.lost, found.gained, found.mcnemar_p) == (0, 0, 1.0)


def test_the_test_is_mcnemars_exact_one() -> None:
    labels = np.zeros(N, np.int64)
    right, wrong = np.eye(CLASSES)[0], np.eye(CLASSES)[1]
    before = np.array([right] * 390 + [wrong] * 10)
    after = np.array([wrong] * 30 + [right] * 370)
    found = compare(labels, [str(n) for n in range(N)], before, after, TAXONOMY, resamples=20)
    assert (found.lost, found.gained) == (30, 10)
    assert found.mcnemar_p == pytest.approx(2 * binom.cdf(10, 40, 0.5))


def test_an_interval_covers_a_change_of_calibration_that_is_below_zero() -> None:
    labels = np.random.default_rng(5).integers(0, CLASSES, N)
    before = answers(6, 2.0, labels)
    after = before**2 / (before**2).sum(axis=1, keepdims=True)  # the true posterior
    found = compare(labels, [str(n) for n in range(N)], before, after, TAXONOMY, resamples=100)
    value, low, high = found.changes["ece"].change
    assert low < value < high < 0
