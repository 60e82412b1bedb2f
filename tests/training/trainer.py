"""A small training, for ``test_task`` to run in one process and in two: FOLDER DEVICES FROZEN."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.recipes import FitRecipe, Hardware
from classkinfy_export.training import task
from classkinfy_export.training.teacher import Teacher


class Bright(nn.Module):
    """A teacher that goes by brightness."""

    spec = NetworkSpec(architecture="test_efficientnet", input_size=32, outputs=3)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return (levels.mean(dim=(2, 3)) - 127.5) / 2.0


def main(folder: Path, devices: int, frozen: bool) -> None:
    """Train without what draws numbers in each process, augmentation and dropout."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (120, 60, 20)).astype(np.int64)
    pixels = rng.integers(0, 256, (200, 16, 16, 3), np.uint8)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)
    )
    recipe = {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "freeze_norm": frozen,
        "augment": {"flips": False, "colour": 0.0, "white_balance": 0.0},
    }
    task.fit(
        network,
        pixels,
        labels,
        train=np.arange(0, 200, 2),
        val=np.arange(1, 200, 2),
        outputs=3,
        recipe=FitRecipe.model_validate(recipe),
        seed=0,
        folder=folder,
        hardware=Hardware(devices=devices),
        teacher=Teacher([Bright()], ["bright"]),  # type: ignore[list-item]
        distillation=0.5,
        progress=lambda done, total: None,
    )
    torch.save(network.state_dict(), folder / f"{os.environ.get('LOCAL_RANK', 0)}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "frozen")
