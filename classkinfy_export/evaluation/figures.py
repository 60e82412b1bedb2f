"""Figures of a classifier, each with an interval from a bootstrap over lesions.

Images of one lesion are near copies, so lesions are drawn again, not images. A resample is a weight
for each image, how often its lesion was drawn; every figure is computed from weights, of many
resamples at once: float64 [resamples, n] to float64 [resamples], NaN where there is none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from classkinfy_export.evaluation.report import Figure, Figures

Labels = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Selected = npt.NDArray[np.bool_]

BINS = 15
"""Of confidence, each as wide as the others."""
_AT_ONCE = 100
"""Resamples in memory."""
_INFLATED = "ece"
"""Ends the names of figures that are larger in a resample, which holds fewer different images.

Their intervals are reflected about the value (Davison and Hinkley, 1997: the basic bootstrap), and
cover 80 to 95 % instead of none.
"""


def bootstrap(
    measure: Callable[[Values], dict[str, Values]],
    lesions: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Figures:
    """Give each figure an interval: the middle 95 % of the resamples that have it.

    A figure that the data cannot give, as the recall of a class that does not occur, is left out.

    Args:
        measure: from weights, float64 [resamples, n], to figures, float64 [resamples], by name.
        lesions: of each image.
        resamples: how often lesions are drawn again.
        seed: of the draws.
    """
    _, group = np.unique(np.asarray(lesions), return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    point = measure(np.ones((1, len(group))))
    drawn = [
        measure(rng.multinomial(count, np.full(count, 1.0 / count), size)[:, group].astype(float))
        for first in range(0, resamples, _AT_ONCE)
        for size in [min(_AT_ONCE, resamples - first)]
    ]
    found = {}
    for name, (value,) in point.items():
        values = np.concatenate([part[name] for part in drawn])
        values = values[~np.isnan(values)]
        if not np.isnan(value) and len(values):
            low, high = np.quantile(values, (0.025, 0.975))
            if name.endswith(_INFLATED):
                low, high = max(2.0 * value - high, 0.0), max(2.0 * value - low, value)
                low = min(low, value)
            found[name] = Figure(float(value), float(low), float(high))
    return found


def measure(
    labels: Labels, probabilities: Values, weights: Values, names: Sequence[str]
) -> dict[str, Values]:
    """Return every figure by its name, as ``recall/mel`` or ``balanced_accuracy``.

    Args:
        labels: int64 [n].
        probabilities: float64 [n, classes].
        weights: float64 [resamples, n].
        names: the classes.
    """
    predicted = probabilities.argmax(axis=1)
    classes = len(names)
    cells = np.eye(classes**2)[labels * classes + predicted]
    matrix = (weights @ cells).reshape(-1, classes, classes)
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    true, given, total = matrix.sum(axis=2), matrix.sum(axis=1), weights.sum(axis=1)
    rest = total[:, None] - true
    by_class = {
        "accuracy": _quotient(
            rest - given + 2.0 * hits, np.broadcast_to(total[:, None], true.shape)
        ),
        "recall": _quotient(hits, true),
        "precision": _quotient(hits, given),
        "f1": _quotient(2.0 * hits, true + given),
        "specificity": _quotient(rest - given + hits, rest),
        "auroc": np.stack(
            [auroc(labels == c, probabilities[:, c], weights) for c in range(classes)], axis=1
        ),
    }
    right = (predicted == labels).astype(np.float64)
    ece, debiased = calibration_error(probabilities.max(axis=1), right, weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means = {
            "balanced_accuracy": np.nanmean(by_class["recall"], axis=1),
            "auroc": np.nanmean(by_class["auroc"], axis=1),
        }
    flat = {"accuracy": hits.sum(axis=1) / total, **means, "ece": ece, "debiased_ece": debiased}
    for name, values in by_class.items():
        flat |= {f"{name}/{dx}": column for dx, column in zip(names, values.T, strict=True)}
    return flat


def auroc(positive: Selected, score: Values, weights: Values) -> Values:
    """Return the area under the ROC curve: how often a positive scores higher, ties half."""
    above, below = _by_threshold(positive, score, weights)
    beaten = below[:, -1:] - below  # negatives with a lower score
    wins = (above[:, 1:] - above[:, :-1]) * (beaten[:, 1:] + beaten[:, :-1]) / 2.0
    return _quotient(wins.sum(axis=1), above[:, -1] * below[:, -1])


def sensitivity(positive: Selected, score: Values, weights: Values, specificity: float) -> Values:
    """Return the largest sensitivity that is had at a specificity of at least so much."""
    above, below = _by_threshold(positive, score, weights)
    allowed = below <= (1.0 - specificity) * below[:, -1:] + 1e-9
    found = _quotient(np.where(allowed, above, 0.0).max(axis=1), above[:, -1])
    return np.where(below[:, -1] > 0.0, found, np.nan)


def _by_threshold(positive: Selected, score: Values, weights: Values) -> tuple[Values, Values]:
    """Return the weight of positives and negatives at or above each score, the highest first.

    The first column is 0, the last all: float64 [resamples, scores + 1] each.
    """
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0.0, True))
    ends = np.append(0, last + 1)
    at_or_above = []
    for side in (positive, ~positive):
        summed = np.cumsum((weights * side)[:, order], axis=1)
        at_or_above.append(np.pad(summed, ((0, 0), (1, 0)))[:, ends])
    return at_or_above[0], at_or_above[1]


def calibration_error(confidence: Values, right: Values, weights: Values) -> tuple[Values, Values]:
    """Return the expected calibration error of the likeliest class, plain and debiased.

    The plain one is the mean distance of confidence and accuracy over bins (Naeini et al., 2015);
    it is too large on few images, for an accuracy is never exactly what it should be. Its bias is
    estimated as by Kumar et al. (2019): what it would grow by, were each bin's accuracy drawn again
    from a normal distribution about itself.
    """
    mass, sure, hits = calibration(confidence, right, weights)
    accuracy = np.nan_to_num(_quotient(hits, mass))
    gap = np.nan_to_num(_quotient(sure, mass)) - accuracy
    share = mass / mass.sum(axis=1, keepdims=True)
    plain = (share * np.abs(gap)).sum(axis=1)
    # The mean of |N(gap, deviation)|.
    variance = np.nan_to_num(_quotient(accuracy * (1.0 - accuracy), mass))
    deviation = np.maximum(np.sqrt(variance), 1e-12)
    z = gap / deviation
    folded = 2.0 * deviation * norm.pdf(z) + gap * (2.0 * norm.cdf(z) - 1.0)
    return plain, np.maximum(2.0 * plain - (share * folded).sum(axis=1), 0.0)


def calibration(
    confidence: Values, right: Values, weights: Values
) -> tuple[Values, Values, Values]:
    """Return each bin's weight, summed confidence and hits: float64 [resamples, BINS] each."""
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(np.int64), BINS - 1)]
    return weights @ bins, weights @ (bins * confidence[:, None]), weights @ (bins * right[:, None])


def _quotient(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
