"""Fit the screen's profiles, and ask them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.errors import DataError
from classkinfy_export.stages.screen import Profiles

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_C = 0.3
"""scikit-learn's inverse of the penalty; on lesions that were held back, 0.1 to 1 do as well."""
_ABSENT = -1e4


def fit(features: Features, labels: Labels, classes: int) -> Profiles:
    """Fit multinomial logistic regression, and take the classes' frequencies out of its answer.

    Args:
        features: float32 [n, features], of the training part; lesions that were not found are
            left out.
        labels: int64 [n].
        classes: number of classes; one without an image is never suggested.

    Raises:
        DataError: no more lesions were found than there are classes.
    """
    found = features[:, list(SCREEN_FEATURES).index("area")] > 0
    features, labels = features[found], labels[found]
    present, counts = np.unique(labels, return_counts=True)
    if len(labels) <= len(present):
        raise DataError(
            f"{len(labels)} training images show a lesion, too few for the screen's profiles",
            hint="give more images to the training part",
        )
    scaler = StandardScaler().fit(features)
    standard = np.clip(scaler.transform(features), -Profiles.LIMIT, Profiles.LIMIT)
    slopes = np.zeros((classes, features.shape[1]))
    biases = np.full(classes, _ABSENT if len(present) > 1 else 0.0)
    if len(present) > 1:
        model = LogisticRegression(C=_C, max_iter=2000).fit(standard, labels)
        # Of two classes scikit-learn keeps one row, the log odds of the second.
        rows, offsets = model.coef_, model.intercept_
        if len(present) == 2:
            rows, offsets = np.vstack((-rows, rows)) / 2, np.append(-offsets, offsets) / 2
        slopes[present], biases[present] = rows, offsets - np.log(counts / counts.sum())
    profiles = Profiles(classes).eval().requires_grad_(False)
    for held, fitted in (
        (profiles.mean, scaler.mean_),
        (profiles.scale, 1.0 / scaler.scale_),
        (profiles.linear.weight, slopes),
        (profiles.linear.bias, biases),
    ):
        held.copy_(torch.from_numpy(np.asarray(fitted, np.float32)))
    return profiles


def predict(profiles: Profiles, features: Features) -> Features:
    """Return what the profiles say: float32 [n, classes], 0..1."""
    with torch.inference_mode():
        given: Features = profiles(torch.from_numpy(np.array(features))).numpy()
    return given
