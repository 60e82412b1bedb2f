"""What a training reports on a part of the data: the libraries' figures, nothing of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


def summarise(
    labels: Labels, probabilities: Probabilities, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return n, accuracy, balanced accuracy, AUROC, calibration error, recall, confusion matrix.

    Args:
        labels: int64 [n].
        probabilities: float32 [n, classes].
        names: the classes.

    Returns:
        plain values. Balanced accuracy is the mean recall, AUROC the mean of one against the rest,
        both over the classes that occur; AUROC is None when only one does. ECE is that of the
        likeliest class, in 15 bins as wide as each other.
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
        "ece": calibration_error(labels, probabilities),
        "recall": recall,
        "classes": list(names),
        "confusion_matrix": matrix.tolist(),
    }


def calibration_error(labels: Labels, probabilities: Probabilities, bins: int = 15) -> float:
    """Return the expected calibration error (Naeini et al., 2015) of the likeliest class."""
    error = multiclass_calibration_error(
        torch.from_numpy(probabilities),
        torch.from_numpy(labels),
        num_classes=probabilities.shape[1],
        n_bins=bins,
    )
    return float(error)
