"""Figures against scikit-learn's and torchmetrics', intervals against simulation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from classkinfy_export.evaluation.figures import bootstrap, measure, sensitivity
from classkinfy_export.evaluation.report import Figures

NAMES = ("a", "b", "c")


def sample(
    n: int, seed: int = 0, sharpness: float = 1.0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels drawn from the probabilities; made more confident than they should be, or less."""
    rng = np.random.default_rng(seed)
    logits = rng.normal((1.0, 0.0, -0.5), 1.5, (n, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    return labels, softmax(logits * sharpness, axis=1)


def once(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], *weights: float
) -> dict[str, float]:
    """Figures of one set of weights, by default of each image once."""
    rows = np.array([weights or np.ones(len(labels))], float)
    given = measure(labels, probabilities, rows, NAMES)
    return {name: float(value) for name, (value,) in given.items()}


def intervals(
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    lesions: list[str] | None = None,
    resamples: int = 1000,
) -> Figures:
    return bootstrap(
        lambda weights: measure(labels, probabilities, weights, NAMES),
        lesions or [str(i) for i in range(len(labels))],
        resamples=resamples,
    )


def test_every_figure_is_scikit_learns() -> None:
    labels, probabilities = sample(400)
    probabilities = np.round(probabilities * 64) / 64  # with ties
    probabilities[:, 0] = 1.0 - probabilities[:, 1:].sum(axis=1)
    given = once(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    report = metrics.classification_report(
        labels, predicted, target_names=NAMES, output_dict=True, zero_division=0
    )
    for c, name in enumerate(NAMES):
        for figure, theirs in (
            ("recall", "recall"),
            ("precision", "precision"),
            ("f1", "f1-score"),
        ):
            assert given[f"{figure}/{name}"] == pytest.approx(report[name][theirs])
        rest = metrics.recall_score(labels != c, predicted != c)
        assert given[f"specificity/{name}"] == pytest.approx(rest)
        agreed = metrics.accuracy_score(labels == c, predicted == c)
        assert given[f"accuracy/{name}"] == pytest.approx(agreed)
        auroc = metrics.roc_auc_score(labels == c, probabilities[:, c])
        assert given[f"auroc/{name}"] == pytest.approx(auroc)
    assert given["accuracy"] == pytest.approx(report["accuracy"])
    balanced = metrics.balanced_accuracy_score(labels, predicted)
    assert given["balanced_accuracy"] == pytest.approx(balanced)
    macro = metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert given["auroc"] == pytest.approx(macro)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=3, n_bins=15
    )
    assert given["ece"] == pytest.approx(float(theirs), abs=1e-6)


def test_a_weight_of_two_is_an_image_twice() -> None:
    labels, probabilities = sample(120)
    weights = np.random.default_rng(1).integers(0, 4, 120)
    rows = np.repeat(np.arange(120), weights)
    given = once(labels, probabilities, *weights)
    assert given == pytest.approx(once(labels[rows], probabilities[rows]))


def test_what_the_data_cannot_give_is_left_out() -> None:
    labels = np.array([0, 0, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    given = intervals(labels, probabilities, resamples=50)
    assert "recall/c" not in given
    assert "auroc/c" not in given
    assert given["specificity/c"].value == 1.0
    assert given["balanced_accuracy"].value == 1.0
    assert given["auroc"].value == 1.0
    one_class = intervals(labels[:2], probabilities[:2], resamples=5)
    assert "auroc" not in one_class
    assert one_class["accuracy"] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "sharpness", "least"),
    [
        ("balanced_accuracy", 1.0, 180),
        ("auroc/c", 1.0, 180),
        # Of an error that cannot be negative, an interval is harder to have.
        ("debiased_ece", 1.0, 165),
        ("debiased_ece", 2.5, 170),
    ],
)
def test_an_interval_covers_the_truth_about_as_often_as_it_says(
    name: str, sharpness: float, least: int
) -> None:
    labels, probabilities = sample(60_000, sharpness=sharpness)
    truth = once(labels, probabilities)[name]
    covered = 0
    for first in range(0, 60_000, 300):
        rows = slice(first, first + 300)
        given = intervals(labels[rows], probabilities[rows], resamples=200)[name]
        covered += given.low <= truth <= given.high
    assert least <= covered <= 198, "190 of 200 would be 95 %"


def test_copies_of_a_lesion_teach_nothing_new() -> None:
    labels, probabilities = sample(150)
    rows = np.repeat(np.arange(150), 4)
    alone = intervals(labels, probabilities)
    copies = intervals(labels[rows], probabilities[rows], [str(row) for row in rows])
    for name in ("accuracy", "recall/a", "auroc"):
        width = alone[name].high - alone[name].low
        assert copies[name].value == pytest.approx(alone[name].value)
        assert copies[name].high - copies[name].low == pytest.approx(width, rel=0.15)


def test_the_debiased_error_of_a_calibrated_answer_is_nearer_to_nothing() -> None:
    calibrated = [once(*sample(300, seed)) for seed in range(40)]
    overconfident = [once(*sample(300, seed, 2.5)) for seed in range(40)]
    truth = once(*sample(40_000, 99, 2.5))["ece"]
    plain = np.mean([given["ece"] for given in calibrated])
    debiased = np.mean([given["debiased_ece"] for given in calibrated])
    assert debiased < 0.7 * plain, "though a part of it stays"
    seen = np.mean([given["debiased_ece"] for given in overconfident])
    assert seen == pytest.approx(truth, abs=0.01)


def test_sensitivity_at_a_specificity_is_read_off_the_curve() -> None:
    positive = np.array([True, True, True, True, False, False, False, False, False])
    score = np.array([0.9, 0.8, 0.6, 0.2, 0.7, 0.5, 0.4, 0.3, 0.1])
    weights = np.ones((2, 9))
    weights[1, 4] = 0.0  # without the highest negative
    assert sensitivity(positive, score, weights, 1.0).tolist() == [0.5, 0.75]
    assert sensitivity(positive, score, weights, 0.8).tolist() == [0.75, 0.75]
    assert sensitivity(positive, score, weights, 0.2).tolist() == [1.0, 1.0]
    assert np.isnan(sensitivity(positive, score, positive[None].astype(float), 0.9)).all()


@pytest.mark.parametrize("n", [30, 300])
def test_an_interval_holds_its_value(n: int) -> None:
    for seed in range(20):
        for name, figure in intervals(*sample(n, seed), resamples=100).items():
            assert figure.low <= figure.value <= figure.high, name
