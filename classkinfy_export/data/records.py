"""From a layout's table to checked records: one row an image, the same columns for every layout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pandas as pd

from classkinfy_export.data.folder import IMAGE_SUFFIXES, Folder, Table
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

COLUMNS = ("path", "dx", "lesion_id", "mask", "age", "sex", "site")
UNKNOWN = "unknown"


class Layout(Protocol):
    """A way in which a data set lies on disk. ``dataset.LAYOUTS`` lists them."""

    name: str
    description: str
    """What the folder must hold, for the message when no layout fits."""

    def claim(self, table: Table, taxonomy: Taxonomy) -> int:
        """Return how surely a table is this layout's metadata: 0 not at all, 1, 2 or 3."""

    def records(self, folder: Folder, table: Table, taxonomy: Taxonomy) -> pd.DataFrame:
        """Return checked records, as ``assemble`` does.

        Raises:
            DataError: as ``assemble``, or the table does not hold what the layout says.
        """


def assemble(table: pd.DataFrame, folder: Folder, source: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    """Check a table's rows, and join them to the images and masks of the folder.

    Args:
        table: str columns ``image_id``, ``dx``, ``lesion_id``; ``age`` (years), ``sex`` and
            ``site`` where known. An ending in ``image_id`` (``.jpg``) is dropped.
        folder: the scan that found the images.
        source: the table's file, for messages.
        taxonomy: the diagnoses allowed.

    Returns:
        index ``image_id``, unique and sorted; columns ``COLUMNS``. ``mask`` is None where there
        is none, ``age`` NaN and ``sex`` and ``site`` ``unknown`` where not given.

    Raises:
        DataError: no or a repeated image id, no lesion, an unknown diagnosis, a missing image.
    """
    table = table.assign(image_id=[_without_suffix(i) for i in table["image_id"]])
    _refuse_empty(table, "image_id", source)
    repeated = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(repeated):
        raise DataError(
            f"{source} lists the image {repeated.iloc[0]} more than once"
            f" ({len(repeated)} rows too many)",
            hint="keep one row for each image",
        )
    _refuse_empty(table, "lesion_id", source)
    refuse_unknown(table["dx"], table["image_id"], taxonomy.classes, source)
    absent = [i for i in table["image_id"] if i not in folder.images]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(table)} images in {source} are missing,"
            f" the first is {absent[0]} ({', '.join(IMAGE_SUFFIXES)} below {folder.root})",
            hint="unpack all image archives there, or remove the rows",
        )
    table = table.set_index("image_id").sort_index()
    return pd.DataFrame(
        {
            "path": [folder.images[i] for i in table.index],
            "dx": table["dx"],
            "lesion_id": table["lesion_id"],
            # object: pandas' own str type would turn None into NaN.
            "mask": pd.Series([folder.masks.get(i) for i in table.index], table.index, object),
            "age": pd.to_numeric(_optional(table, "age"), errors="coerce").astype(float),
            "sex": _described(table, "sex"),
            "site": _described(table, "site"),
        },
        index=table.index,
    )


def refuse_unknown(
    dx: pd.Series[str], image_id: pd.Series[str], allowed: Iterable[str], source: Path
) -> None:
    """Raise DataError for the first diagnosis that is not among the allowed ones."""
    allowed = tuple(allowed)
    unknown = ~dx.isin(allowed)
    if unknown.any():
        raise DataError(
            f"{source} gives image {image_id[unknown].iloc[0]} the unknown diagnosis"
            f" {dx[unknown].iloc[0]!r} ({int(unknown.sum())} rows have an unknown one)",
            hint=f"allowed are {', '.join(allowed)}; other classes need a taxonomy in the recipe",
        )


def refuse_two_diagnoses(lesion: pd.Series[str], dx: pd.Series[str], source: Path) -> None:
    """Raise DataError for the first lesion whose images have different diagnoses."""
    pairs = pd.DataFrame({"lesion": lesion, "dx": dx}).drop_duplicates()
    twice = pairs.loc[pairs["lesion"].duplicated(), "lesion"]
    if len(twice):
        found = sorted(pairs.loc[pairs["lesion"] == twice.iloc[0], "dx"])
        raise DataError(
            f"{source} gives the lesion {twice.iloc[0]} two diagnoses: {', '.join(found)}",
            hint="a lesion has one diagnosis; correct the table",
        )


def _refuse_empty(table: pd.DataFrame, column: str, source: Path) -> None:
    empty = (table[column] == "").to_numpy().nonzero()[0]
    if len(empty):
        row = int(empty[0])
        raise DataError(
            f"{source} row {row + 1} (image {table['image_id'].iloc[row] or '?'}) has no {column}",
            hint=f"give each image a {column}",
        )


def _without_suffix(image_id: str) -> str:
    suffix = Path(image_id).suffix
    return image_id.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else image_id


def _optional(table: pd.DataFrame, column: str) -> pd.Series[str]:
    return table[column] if column in table else pd.Series("", table.index, str)


def _described(table: pd.DataFrame, column: str) -> pd.Series[str]:
    return _optional(table, column).str.lower().replace("", UNKNOWN)
