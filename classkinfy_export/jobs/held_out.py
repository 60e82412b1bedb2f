"""The images of a data set that a model may be judged on: those that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from classkinfy_export.errors import DataError
from classkinfy_export.jobs.target import Target

if TYPE_CHECKING:
    import pandas as pd

    from classkinfy_export.data.dataset import Dataset

_SPLIT = "split.csv"


def choose(
    target: Target, data: Path, *, split_csv: Path | None = None, part: str | None = None
) -> tuple[pd.DataFrame, str]:
    """Choose a part of a data set, or all of one that the model does not know.

    A run brings its own split, also for a checkpoint in it; a bundle needs it for the data that its
    run was trained on. A checkpoint that was taken out of its run does not tell what it was trained
    on.

    Args:
        target: what is judged.
        data: a data set's folder, in any supported layout.
        split_csv: the data's split; a run's own by default, where it is of these data.
        part: of the split; ``test`` by default.

    Returns:
        records, as of ``data.dataset.Dataset``, and what to call them.

    Raises:
        DataError: the data cannot be read, nothing is left of them, or the model was trained on
            some of them and no split tells on which.
    """
    from classkinfy_export.data.dataset import open_dataset

    manifest = target.bundle.manifest
    dataset = open_dataset(data, manifest.taxonomy)
    split_csv = split_csv or _own_split(target, dataset)
    trained = manifest.provenance.data
    known = trained.get("fingerprint", ""), *trained.get("members", "").split()
    if split_csv is None and dataset.fingerprint() in known:
        raise DataError(
            f"{target.path} was trained on a part of {dataset.name}: it cannot be evaluated whole",
            hint="give --split, the split.csv of its training run",
        )
    if split_csv is None:
        if part is not None:
            raise DataError(f"there is no split to take {part!r} of", hint="give --split")
        return dataset.records, dataset.name
    part = part or "test"
    return _part(dataset, split_csv, part), f"{dataset.name}, {part}"


def _own_split(target: Target, dataset: Dataset) -> Path | None:
    """Return the split of a run, or of a checkpoint that lies in one, if it is of these data."""
    path = (target.path if target.path.is_dir() else target.path.parent) / _SPLIT
    if target.exported or not path.is_file():
        return None
    from classkinfy_export.data.folder import read_table

    known = set(read_table(path, ("image_id", "part"))["image_id"])
    return path if known & set(dataset.records.index) else None


def _part(dataset: Dataset, split_csv: Path, part: str) -> pd.DataFrame:
    from classkinfy_export.data import splits

    if part not in splits.PARTS:
        raise DataError(f"{part!r} is no part of a split", hint=", ".join(splits.PARTS))
    chosen = splits.read(split_csv, dataset, of_more=True)["part"] == part
    records = dataset.records[chosen[dataset.records.index]]
    if not len(records):
        raise DataError(f"{split_csv} puts no image into {part!r}", hint="choose another --part")
    return records
