"""The screen's profiles against scikit-learn's logistic regression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.errors import DataError
from classkinfy_export.training import screen

WIDTH = len(SCREEN_FEATURES)


def lesions(classes: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.array(classes), 60)
    spread = rng.uniform(0.01, 40, WIDTH)
    centres = rng.normal(size=(max(classes) + 1, WIDTH)) * spread * 0.4
    noise = rng.normal(size=(len(labels), WIDTH)) * spread
    features = (centres[labels] + noise).astype(np.float32)
    features[:, 0] = np.abs(features[:, 0]) + 0.01  # area: all were found
    return features, labels


@pytest.mark.parametrize("classes", [(0, 1), (0, 1, 2, 3, 4, 5, 6)])
def test_probabilities_are_of_logistic_regression_with_the_frequencies_taken_out(
    classes: tuple[int, ...],
) -> None:
    features, labels = lesions(classes)
    rare = (labels != 1) | (np.arange(len(labels)) % 4 == 0)
    features, labels = features[rare], labels[rare]
    profiles = screen.fit(features, labels, len(classes))
    standard = np.clip(StandardScaler().fit_transform(features), -5, 5)
    model = LogisticRegression(C=screen._C, max_iter=2000).fit(standard, labels)
    odds = model.predict_proba(standard) / (np.bincount(labels) / len(labels))
    wanted = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(screen.predict(profiles, features), wanted, atol=1e-4)


def test_a_class_without_images_is_never_suggested() -> None:
    features, labels = lesions((0, 2))
    given = screen.predict(screen.fit(features, labels, 3), features)
    assert not given[:, 1].any()
    assert (given.argmax(axis=1) == labels).mean() > 0.8


def test_one_class_alone_and_a_constant_feature_give_numbers() -> None:
    features, labels = lesions((1, 2))
    features[:, 0] = 7.0
    assert np.isfinite(screen.predict(screen.fit(features, labels, 3), features)).all()
    only = labels == 1
    given = screen.predict(screen.fit(features[only], labels[only], 3), features[only])
    assert np.isfinite(given).all()


def test_a_lesion_that_was_not_found_says_nothing_and_teaches_nothing() -> None:
    features, labels = lesions((0, 1))
    nothing = np.zeros((30, WIDTH), np.float32)
    labels = np.concatenate((labels, np.ones(30, np.int64)))
    features = np.concatenate((features, nothing))
    profiles = screen.fit(features, labels, 2)
    assert torch.equal(profiles.mean, screen.fit(features[:-30], labels[:-30], 2).mean)
    np.testing.assert_array_equal(screen.predict(profiles, nothing), 0.5)
    with pytest.raises(DataError, match="too few"):
        screen.fit(features[-30:], labels[-30:], 2)


def test_features_far_beyond_the_training_parts_are_cut() -> None:
    features, labels = lesions((0, 1))
    profiles = screen.fit(features, labels, 2)
    far = np.full((1, WIDTH), 1e30, np.float32)
    assert np.isfinite(screen.predict(profiles, far)).all()
