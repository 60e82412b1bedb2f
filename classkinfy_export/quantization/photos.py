"""Which photos to calibrate on: drawn from a folder, or evenly over the diagnoses of a data set.

No lesion that the model is measured on may be among them. Where the split of its training is known,
a data set gives photos of the ``train`` part alone, and a folder with held-out photos is refused.

Order comes from SHA-256, as in ``data.splits``: the same photos and seed give the same set on every
machine.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from classkinfy_export.data import splits
from classkinfy_export.data.dataset import Dataset, is_dataset, open_dataset
from classkinfy_export.data.folder import read_table
from classkinfy_export.errors import DataError
from classkinfy_export.frame import list_images
from classkinfy_export.recipes import CalibrationRecipe
from classkinfy_export.taxonomy import Taxonomy

_TRAIN = "train"
_TUNING = ("val", "calib")


@dataclass(frozen=True)
class Training:
    """What is known of the data that a model was trained on."""

    data: Mapping[str, str] = field(default_factory=dict)
    """As in a manifest's provenance: ``fingerprint``, ``members``, ``split_sha256``."""
    split: Path | None = None
    """Its split, where it lies beside the weights."""

    def knows(self, dataset: Dataset) -> bool:
        """Whether the model was trained on a part of this data set."""
        known = (self.data.get("fingerprint"), *self.data.get("members", "").split())
        return dataset.fingerprint() in known


@dataclass(frozen=True)
class Photos:
    """Photos to calibrate on, in the order in which they are used: alternate ones are its halves.

    Those of a data set lie class by class, so that both halves have as many of each.
    """

    paths: tuple[Path, ...]
    seed: int
    classes: dict[str, int] | None = None
    """Photos by diagnosis, those without any included; None of a folder."""
    split_sha256: str | None = None
    """Of the split whose held-out lesions are not among them; None where none is of these."""


def choose(
    source: Path,
    recipe: CalibrationRecipe,
    taxonomy: Taxonomy,
    *,
    training: Training | None = None,
    split: Path | None = None,
) -> Photos:
    """Choose photos to calibrate on.

    Args:
        source: a data set's folder, in any supported layout, or a folder of photos.
        recipe: how many, and the seed.
        taxonomy: the diagnoses that a data set may have.
        training: what is known of the model's training.
        split: of the photos; else the training's own, where it names any of them.

    Raises:
        ImageError: there is no such folder, or no photo in it.
        DataError: the data set or the split cannot be read; the split names none of the photos or
            leaves none to take; the model was trained on some and no split, or another, is given;
            a folder holds photos that the model is measured on.
    """
    training = training or Training()
    photos = list_images(source)
    if is_dataset(source, taxonomy):
        dataset = open_dataset(source, taxonomy)
        parts = _parts(dataset.records.index, split, training, source)
        return _of_dataset(dataset, recipe, training, parts, split or training.split)
    parts = _parts([path.stem for path in photos], split, training, source)
    if parts is not None:
        _refuse_held_out(photos, parts["part"], source)
    names = {path.relative_to(source).as_posix(): path for path in photos}
    drawn = sorted(names, key=lambda name: _order(recipe.seed, name))[: recipe.images]
    sha256 = None if parts is None else _sha256(split or training.split)
    return Photos(tuple(names[name] for name in drawn), recipe.seed, split_sha256=sha256)


def others(
    source: Path,
    chosen: Photos,
    images: int,
    taxonomy: Taxonomy,
    *,
    training: Training | None = None,
    split: Path | None = None,
) -> Photos:
    """Choose other photos than those calibrated on, to judge by: as they come, or none.

    Of a data set they are of other lesions; where its split is known, of the parts that training
    tunes by, ``val`` and ``calib``: no weight has seen them, and no accuracy is measured on them.

    Args:
        source: what the photos were chosen of.
        chosen: to calibrate on.
        images: at most so many.
        taxonomy: the diagnoses that a data set may have.
        training: what is known of the model's training.
        split: as it was given to ``choose``.

    Returns:
        no paths, where all photos are calibrated on or measured on.
    """
    training = training or Training()
    if is_dataset(source, taxonomy):
        dataset = open_dataset(source, taxonomy)
        parts = _parts(dataset.records.index, split, training, source)
        records = dataset.records
        if parts is not None:
            records = _of_part(dataset, parts, split or training.split, *_TUNING)
        else:
            seen = records["path"].map(Path).isin(chosen.paths)
            records = records[~records["lesion_id"].isin(records["lesion_id"][seen])]
        names = {image: Path(records["path"][image]) for image in records.index}
    else:
        names = {path.relative_to(source).as_posix(): path for path in list_images(source)}
        names = {name: path for name, path in names.items() if path not in chosen.paths}
    drawn = sorted(names, key=lambda name: _order(chosen.seed, name))[:images]
    return Photos(tuple(names[name] for name in drawn), chosen.seed)


def _parts(
    names: Iterable[str], split: Path | None, training: Training, source: Path
) -> pd.DataFrame | None:
    """Return the split's table, by image; None where there is none of these photos."""
    path = split or training.split
    if path is None:
        return None
    table = read_table(path, splits.COLUMNS).set_index("image_id")
    if table.index.isin(list(names)).any():
        return table
    if split is not None:
        raise DataError(
            f"{split} names none of the photos in {source}",
            hint="give the split that they are in, or no --split where they are of other lesions "
            "than those that the model is measured on",
        )
    return None


def _refuse_held_out(photos: Iterable[Path], part: pd.Series[str], source: Path) -> None:
    held = part[part != _TRAIN]
    found = [path for path in photos if path.stem in held.index]
    if found:
        raise DataError(
            f"{found[0]} is in the split's {held[[found[0].stem]].iloc[0]!r} part, on which the "
            f"model is measured, and so are {len(found) - 1} more of {source}",
            hint="give the data set's folder with its table, of which the train part alone is "
            "taken, or move them out",
        )


def _of_dataset(
    dataset: Dataset,
    recipe: CalibrationRecipe,
    training: Training,
    table: pd.DataFrame | None,
    split: Path | None,
) -> Photos:
    records, sha256 = dataset.records, None
    if table is None and training.knows(dataset):
        raise DataError(
            f"the model was trained on a part of {dataset.name} in {dataset.root}, and nothing "
            "tells which photos it is measured on",
            hint="give --split, the split.csv of its training run",
        )
    if table is not None:
        sha256 = _sha256(split)
        if training.knows(dataset) and training.data.get("split_sha256", sha256) != sha256:
            raise DataError(
                f"{split} is not the split that the model was trained by",
                hint="give the split.csv of its training run",
            )
        records = _of_part(dataset, table, split, _TRAIN)
        if records.empty:
            raise DataError(
                f"{split} leaves no photo of {dataset.root} in {_TRAIN!r}",
                hint="give other data, or another split",
            )
    drawn = _drawn(records, recipe, dataset.taxonomy.classes)
    count = Counter(records["dx"][drawn])
    return Photos(
        tuple(Path(path) for path in records["path"][drawn]),
        recipe.seed,
        {dx: count[dx] for dx in dataset.taxonomy.classes},
        sha256,
    )


def _of_part(
    dataset: Dataset, table: pd.DataFrame, split: Path | None, *names: str
) -> pd.DataFrame:
    """Return the records of some parts. What a split does not name may be anywhere."""
    assert split is not None
    listed = replace(dataset, records=dataset.records[dataset.records.index.isin(table.index)])
    part = splits.read(split, listed, of_more=True)["part"]
    elsewhere = table["lesion_id"][~table["part"].isin(names)]
    free = part.isin(names) & ~listed.records["lesion_id"].isin(elsewhere)
    return listed.records[free]


def _drawn(records: pd.DataFrame, recipe: CalibrationRecipe, classes: Iterable[str]) -> list[str]:
    """Draw images, class by class; of a class, one of each lesion before further ones."""
    order = sorted(records.index, key=lambda image: _order(recipe.seed, image))
    before: Counter[tuple[str, str]] = Counter()
    queues: dict[str, list[tuple[int, int, str]]] = {dx: [] for dx in classes}
    for place, image in enumerate(order):
        dx, lesion = records["dx"][image], records["lesion_id"][image]
        queues[dx].append((before[dx, lesion], place, image))
        before[dx, lesion] += 1
    shares = _shares({dx: len(queue) for dx, queue in queues.items()}, recipe.images)
    return [image for dx, queue in queues.items() for *_, image in sorted(queue)[: shares[dx]]]


def _shares(available: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Share out images: as many of each class, and of one with fewer all that it has."""
    shares = {}
    rarest_first = sorted(available, key=lambda dx: (available[dx], dx))
    for place, dx in enumerate(rarest_first):
        shares[dx] = min(available[dx], -(-wanted // (len(rarest_first) - place)))
        wanted -= shares[dx]
    return shares


def _order(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _sha256(path: Path | None) -> str:
    assert path is not None
    return hashlib.sha256(path.read_bytes()).hexdigest()
