"""What a training reports on a part of the data: scikit-learn's figures, nothing of our own."""

from __future__ import annotations

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
        plain values. Balanced accuracy is the mean recall, AUROC the mean of one against the rest,
        both over the classes that occur; AUROC is None when only one does.
    """
    if len(labels) == 0:
        return {"n": 0}
    predicted = probabilities.argmax(axis=1)
    positions = list(range(len(names)))
    matrix = metrics.confusion_matrix(labels, predicted, labels=positions)
    present = [c for c in positions if 0 < int((labels == c).sum()) < len(labels)]
    aurocs = [float(metrics.roc_auc_score(labels == c, probabilities[:, c])) for c in present]
    recall = {
        name: float(row[c] / row.sum())
        for c, (name, row) in enumerate(zip(names, matrix, strict=True))
        if row.sum()
    }
    return {
        "n": len(labels),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": float(np.mean(list(recall.values()))),
        "auroc": float(np.mean(aurocs)) if aurocs else None,
        "recall": recall,
        "classes": list(names),
        "confusion_matrix": matrix.tolist(),
    }
