"""A second task: what its loss counts, and that the embedding comes to hold what it asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from classkinfy_export.recipes import FitRecipe, Hardware, NetworkRecipe
from classkinfy_export.training import task, weights
from classkinfy_export.training.auxiliary import Auxiliary

RECIPE = NetworkRecipe(architecture="test_efficientnet", weights="none", input_size=32)


def test_only_known_measures_count() -> None:
    told, measures = torch.randn(6, 2), torch.randn(6, 2)
    measures[1, 0] = measures[4, 1] = float("nan")
    known = [0, 2, 3, 5]
    expected = 0.5 * F.smooth_l1_loss(told[known], measures[known])
    auxiliary = Auxiliary(4, 2, weight=0.5)
    assert float(auxiliary.loss(told, measures)) == pytest.approx(float(expected))
    assert float(auxiliary.loss(told, torch.full((6, 2), float("nan")))) == 0.0


def explained(folder: Path, weight: float) -> float:
    """Return the share of a measure's variance that the embedding explains, after a training.

    The measure is how bright the image is; the label, whether it is red or green, does not need it.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    bright = rng.uniform(0.3, 1.0, 256)
    pixels = rng.integers(0, 60, (256, 32, 32, 3))
    pixels[np.arange(256), :, :, labels] += 150
    pixels = (pixels * bright[:, None, None, None]).astype(np.uint8)
    torch.manual_seed(0)
    network = weights.start(RECIPE, 2)
    measures = ((bright - 0.65) / 0.2).astype(np.float32)[:, None]
    task.fit(
        network,
        pixels,
        labels.astype(np.int64),
        train=np.arange(256),
        val=np.array([], np.int64),
        outputs=2,
        recipe=FitRecipe(epochs=6, batch_size=32, learning_rate=1e-2, ema_decay=0.0),
        seed=0,
        folder=folder,
        hardware=Hardware(),
        measures=measures if weight else None,
        measures_weight=weight,
        progress=lambda done, total: None,
    )
    assert not any("tell" in name for name in network.state_dict()), "the task is left out"
    with torch.no_grad():
        embedded = network.embed(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).numpy()
    # Three directions of the embedding: with all of them, noise would fit as well.
    centred = embedded - embedded.mean(axis=0)
    known = np.linalg.svd(centred, full_matrices=False)[0][:, :3]
    target = measures[:, 0] - measures.mean()
    return float(((known.T @ target) ** 2).sum() / (target**2).sum())


def test_the_embedding_comes_to_hold_what_the_task_asks_for(tmp_path: Path) -> None:
    without, learnt = explained(tmp_path / "without", 0.0), explained(tmp_path / "with", 2.0)
    assert learnt > 0.8
    assert learnt > without + 0.1
