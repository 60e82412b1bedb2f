"""A recipe and a data set to a training run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from classkinfy_export.errors import require
from classkinfy_export.recipes import Hardware, TrainRecipe


def train(
    recipe: TrainRecipe,
    data: Sequence[Path],
    out: Path,
    *,
    severity_csv: Path | None = None,
    split_csv: Path | None = None,
    cache_folder: Path | None = None,
    teachers: Sequence[Path] = (),
    hardware: Hardware = Hardware(),
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Train both stages on the data sets in these folders, as one; see ``training.run.train``.

    Raises:
        MissingDependencyError: the ``train`` extra is not installed.
        DataError: the data set cannot be read, or ``out`` holds another run.
    """
    for module in (
        *("torch", "torchvision", "timm", "lightning", "tensorboard", "torchmetrics"),
        *("pandas", "scipy", "sklearn", "skimage"),
    ):
        require(module, extra="train", purpose="training")
    from classkinfy_export.data.dataset import join, open_dataset
    from classkinfy_export.training import run

    dataset = join([open_dataset(folder, recipe.taxonomy) for folder in data])
    return run.train(
        dataset,
        recipe,
        out,
        severity_csv=severity_csv,
        split_csv=split_csv,
        cache_folder=cache_folder,
        teachers=teachers,
        hardware=hardware,
        report=report,
    )
