"""What a training reports on a part of the data: scikit-learn's figures, nothing of our own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def summarise(
    labels: Labels, probabilities: Probabilities, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return n, accuracy, balanced accuracy, macro AUROC, recall by class, confusion matrix.

    Args:
        labels: int64 [n].
        probabilities: float32 [n, classes].
        names: the classes.

    Returns:
        plain values; AUROC is the mean over the classes that occur, None when it is undefined.
    """
    if len(labels) == 0:
        return {"n": 0}
    predicted = probabilities.argmax(axis=1)
    positions = list(range(len(names)))
    matrix = metrics.confusion_matrix(labels, predicted, labels=positions)
    present = [c for c in positions if 0 < int((labels == c).sum()) < len(labels)]
    aurocs = [float(metrics.roc_auc_score(labels == c, probabilities[:, c])) for c in present]
    with warnings.catch_warnings():
        # A class may be predicted that does not occur in a small part.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = float(metrics.balanced_accuracy_score(labels, predicted))
    return {
        "n": len(labels),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": balanced,
        "auroc": float(np.mean(aurocs)) if aurocs else None,
        "recall": {
            names[c]: float(matrix[c, c] / matrix[c].sum()) for c in positions if matrix[c].sum()
        },
        "classes": list(names),
        "confusion_matrix": matrix.tolist(),
    }
