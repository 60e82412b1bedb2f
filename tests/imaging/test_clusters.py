"""Three means against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from classkinfy_export.imaging.clusters import ITERATIONS, three_means


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_scikit_learns_after_as_many_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lab = np.rint(rng.normal([[160], [40], [60]], [[60], [20], [20]], (3, 500)))
    chosen = rng.random(500) < 0.6
    points = lab[:, chosen].T
    light = points[:, 0]
    starts = np.tile(points.mean(axis=0), (3, 1))
    starts[:, 0] = light.min(), (light.min() + light.max()) / 2, light.max()
    model = KMeans(3, init=starts, n_init=1, max_iter=ITERATIONS, tol=0.0, algorithm="lloyd")
    with np.errstate(all="ignore"):
        wanted = model.fit(points)
    centres, shares = three_means(
        torch.from_numpy(lab.astype(np.float32))[:, None],
        torch.from_numpy(chosen.astype(np.float32))[None],
    )
    np.testing.assert_allclose(centres[..., 0], wanted.cluster_centers_, atol=1e-3)
    assert float(shares.sum()) == pytest.approx(1.0)


def test_nothing_selected_gives_zeros() -> None:
    centres, shares = three_means(torch.full((3, 1, 20), 50.0), torch.zeros(1, 20))
    assert not centres.any()
    assert not shares.any()
