"""Fit the screen's profiles, and ask them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.errors import DataError
from classkinfy_export.stages.screen import Profiles

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_ABSENT = -1e4


def fit(features: Features, labels: Labels, classes: int) -> Profiles:
    """Fit linear discriminants: normal distributions of one covariance, equal prior chances.

    The covariance is shrunk as Ledoit and Wolf (2004) do.

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
    if len(labels) <= len(np.unique(labels)):
        raise DataError(
            f"{len(labels)} training images show a lesion, too few for the screen's profiles",
            hint="give more images to the training part",
        )
    scaler = StandardScaler().fit(features)
    standard = np.clip(scaler.transform(features), -Profiles.LIMIT, Profiles.LIMIT)
    present = np.unique(labels)
    weights = np.zeros((classes, features.shape[1]))
    biases = np.full(classes, _ABSENT if len(present) > 1 else 0.0)
    if len(present) > 1:
        priors = np.full(len(present), 1 / len(present))
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
        model.fit(standard, labels)
        # The attributes coef_ and intercept_ hold differences only, where there are two classes.
        directions = np.linalg.lstsq(model.covariance_, model.means_.T, rcond=None)[0].T
        weights[present] = directions
        biases[present] = -0.5 * (directions * model.means_).sum(axis=1)
    profiles = Profiles(classes).eval().requires_grad_(False)
    for held, fitted in (
        (profiles.mean, scaler.mean_),
        (profiles.scale, 1.0 / scaler.scale_),
        (profiles.linear.weight, weights),
        (profiles.linear.bias, biases),
    ):
        held.copy_(torch.from_numpy(np.asarray(fitted, np.float32)))
    return profiles


def predict(profiles: Profiles, features: Features) -> Features:
    """Return what the profiles say: float32 [n, classes], 0..1."""
    with torch.inference_mode():
        given: Features = profiles(torch.from_numpy(np.array(features))).numpy()
    return given
