"""A run's folder: what is in it, whose it is, and what may not change once it was begun."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from classkinfy_export import files
from classkinfy_export.data import splits
from classkinfy_export.data.dataset import Dataset
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import TrainRecipe

RECIPE, SPLIT, METRICS = "recipe.json", "split.csv", "metrics.json"
CLASSIFIER, SCREEN = "classifier.safetensors", "screen.safetensors"


def grader(dx: str) -> str:
    """Return the name of a grader's checkpoint."""
    return f"grader_{dx}.safetensors"


def check(out: Path, recipe: TrainRecipe) -> None:
    """Refuse a folder that holds anything else than an unfinished run of the same recipe."""
    settings = out / RECIPE
    if settings.is_file() and _recipe(settings) == recipe:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out} already holds something else than a run of this recipe",
            hint="choose another --out",
        )


def _recipe(path: Path) -> TrainRecipe | None:
    try:
        return TrainRecipe.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def split(dataset: Dataset, recipe: TrainRecipe, out: Path, given: Path | None) -> pd.DataFrame:
    """Return the split that the run was begun with, else the one given, else a new one."""
    path = out / SPLIT
    made = splits.read(given, dataset) if given else splits.split(dataset, recipe.split)
    if path.is_file():
        held = splits.read(path, dataset)
        if given is not None and not held["part"].equals(made["part"]):
            raise DataError(f"{out} was begun with another split", hint="choose another --out")
        return held
    if not (made["part"] == "train").any():
        raise DataError("the split leaves no image to train on")
    return made


def claim(out: Path, recipe: TrainRecipe, split: pd.DataFrame) -> None:
    """Write down what the run is, once everything about it is known to fit."""
    files.write(out / RECIPE, (recipe.model_dump_json(indent=2) + "\n").encode())
    if not (out / SPLIT).is_file():
        splits.write(split, out / SPLIT)


def keep(path: Path, what: str, table: pd.DataFrame) -> None:
    """Write a table down; refuse another one than the run was begun with."""
    content = table.to_csv(index=False, lineterminator="\n").encode()
    if path.is_file() and path.read_bytes() != content:
        raise DataError(f"{path.parent} was begun with other {what}", hint="choose another --out")
    files.write(path, content)
