"""Learning from a trained network: what its answers are, and that they are learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.recipes import FitRecipe, Hardware, NetworkRecipe
from classkinfy_export.stages.network import Network
from classkinfy_export.training import task, weights
from classkinfy_export.training.teacher import Teacher

RECIPE = NetworkRecipe(architecture="test_efficientnet", weights="none", input_size=32)


def network(side: int, seed: int) -> Network:
    torch.manual_seed(seed)
    spec = NetworkSpec(architecture="test_efficientnet", input_size=side, outputs=3)
    return Network(spec).eval()


def test_several_teachers_answer_with_their_mean_each_at_its_own_size() -> None:
    small, large = network(32, 1), network(64, 2)
    levels = torch.full((2, 3, 32, 32), 100.0)
    levels[1] = 200.0
    answers = Teacher([small, large], ["a", "b"])(levels)
    flat = levels[:, :, :1, :1]
    with torch.no_grad():
        alone = [
            torch.softmax(each(flat.expand(2, 3, s, s)), dim=1)
            for each, s in ((small, 32), (large, 64))
        ]
    np.testing.assert_allclose(answers, sum(alone) / 2, atol=1e-5)
    assert not answers.requires_grad


class Contrary(nn.Module):
    """Calls what is red green, and what is green red."""

    spec = NetworkSpec(architecture="test_efficientnet", input_size=32, outputs=2)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        red, green = levels[:, 0].mean(dim=(1, 2)), levels[:, 1].mean(dim=(1, 2))
        return 0.1 * torch.stack((green - red, red - green), dim=1)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_a_network_answers_as_its_teacher_as_far_as_it_is_asked_to(
    tmp_path: Path, share: float
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256).astype(np.int64)
    pixels = rng.integers(0, 60, (256, 32, 32, 3)).astype(np.uint8)
    pixels[np.arange(256), :, :, labels] += 150
    torch.manual_seed(0)
    student = weights.start(RECIPE, 2)
    task.fit(
        student,
        pixels,
        labels,
        train=np.arange(256),
        val=np.array([], np.int64),
        outputs=2,
        recipe=FitRecipe(epochs=6, batch_size=32, learning_rate=1e-2, ema_decay=0.5),
        seed=0,
        folder=tmp_path,
        hardware=Hardware(),
        teacher=Teacher([Contrary()], ["contrary"]),  # type: ignore[list-item]
        distillation=share,
        progress=lambda done, total: None,
    )
    right = (task.predict(student, pixels).argmax(dim=1).numpy() == labels).mean()
    assert right < 0.1 if share else right > 0.9
