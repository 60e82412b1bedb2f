"""Answers to an evaluation: figures with intervals, over all images and over slices of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics

from classkinfy_export.evaluation import figures
from classkinfy_export.evaluation.answers import probabilities
from classkinfy_export.evaluation.report import Bin, Curve, Evaluation, Figures, Slice
from classkinfy_export.taxonomy import Taxonomy

SPECIFICITIES = (0.8, 0.9, 0.95)
_AGES = ("0-29", "30-44", "45-59", "60-74", "75+")
_EDGES = (-np.inf, 30, 45, 60, 75, np.inf)
_SLICED = ("accuracy", "balanced_accuracy", "auroc", "ece", "debiased_ece")
_FEWEST = 30
"""Images that a slice must have, to be shown."""


def evaluate(
    answers: pd.DataFrame,
    taxonomy: Taxonomy,
    *,
    data: str,
    runtime: str,
    bundle: str,
    resamples: int = 1000,
) -> Evaluation:
    """Evaluate a classifier's answers.

    Args:
        answers: as ``answers.collect`` gives them; at least one.
        taxonomy: the classes.
        data: what the images are.
        runtime: what answered.
        bundle: SHA-256 of its manifest.
        resamples: of the bootstrap over lesions.
    """
    labels, chances = _labels(answers, taxonomy), probabilities(answers, taxonomy.classes)
    positions = range(len(taxonomy.classes))
    matrix = metrics.confusion_matrix(labels, chances.argmax(axis=1), labels=[*positions])
    mixed = {
        dx: labels == c
        for c, dx in enumerate(taxonomy.classes)
        if 0 < int((labels == c).sum()) < len(labels)
    }
    return Evaluation(
        data=data,
        runtime=runtime,
        bundle=bundle,
        n=len(answers),
        lesions=int(answers["lesion_id"].nunique()),
        accepted=float(answers["accepted"].mean()),
        classes=taxonomy.classes,
        figures=_figures(answers, taxonomy, resamples),
        sensitivity={
            dx: _sensitivities(answers, mixed[dx], chances[:, taxonomy.index(dx)], resamples)
            for dx in taxonomy.malignant
            if dx in mixed
        },
        confusion_matrix=tuple(tuple(row) for row in matrix.tolist()),
        reliability=_reliability(labels, chances),
        curves={
            dx: _curve(positive, chances[:, taxonomy.index(dx)]) for dx, positive in mixed.items()
        },
        slices={
            by: {
                str(value): Slice(n=len(part), figures=_headline(part, taxonomy, resamples))
                for value, part in answers.groupby(key, observed=True)
                if len(part) >= _FEWEST
            }
            for by, key in (
                ("age", pd.cut(answers["age"], _EDGES, labels=_AGES, right=False)),
                ("sex", answers["sex"]),
                ("site", answers["site"]),
            )
        },
    )


def _labels(answers: pd.DataFrame, taxonomy: Taxonomy) -> figures.Labels:
    return answers["dx"].map(taxonomy.index).to_numpy(np.int64)


def _figures(answers: pd.DataFrame, taxonomy: Taxonomy, resamples: int) -> Figures:
    labels, chances = _labels(answers, taxonomy), probabilities(answers, taxonomy.classes)

    def measure(weights: figures.Values) -> dict[str, figures.Values]:
        return figures.measure(labels, chances, weights, taxonomy.classes)

    return figures.bootstrap(measure, answers["lesion_id"].to_list(), resamples=resamples)


def _headline(answers: pd.DataFrame, taxonomy: Taxonomy, resamples: int) -> Figures:
    every = _figures(answers, taxonomy, resamples)
    return {name: figure for name, figure in every.items() if name in _SLICED}


def _sensitivities(
    answers: pd.DataFrame, positive: npt.NDArray[np.bool_], score: figures.Values, resamples: int
) -> Figures:
    return figures.bootstrap(
        lambda weights: {
            str(wanted): figures.sensitivity(positive, score, weights, wanted)
            for wanted in SPECIFICITIES
        },
        answers["lesion_id"].to_list(),
        resamples=resamples,
    )


def _reliability(labels: figures.Labels, chances: figures.Values) -> tuple[Bin, ...]:
    right = (chances.argmax(axis=1) == labels).astype(np.float64)
    parts = figures.calibration(chances.max(axis=1), right, np.ones((1, len(labels))))
    return tuple(
        Bin(n=int(n), confidence=sure / n, accuracy=hits / n)
        for n, sure, hits in zip(*(part[0].tolist() for part in parts), strict=True)
        if n
    )


def _curve(positive: npt.NDArray[np.bool_], score: figures.Values) -> Curve:
    false, true, _ = metrics.roc_curve(positive, score)
    return Curve(false_positive_rate=tuple(false.tolist()), true_positive_rate=tuple(true.tolist()))
