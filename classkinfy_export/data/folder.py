"""One scan of a data folder: which tables, images and lesion masks it holds, and how to read one.

Masks are ``<image_id>_segmentation.png`` below a folder whose name contains ``segmentation``.
Nothing in such a folder, and no file of such a name, is ever taken for a photo.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from classkinfy_export.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_TABLE_SUFFIXES = (".csv", ".tab")
_TABLE_WITHOUT_SUFFIX = "ham10000_metadata"
_MASK_FOLDER = "segmentation"
_MASK_ENDING = "_segmentation.png"
_HEADER_LIMIT = 1 << 20


@dataclass(frozen=True)
class Table:
    """A CSV file's place and its column names; empty when the file is."""

    path: Path
    columns: tuple[str, ...]

    @property
    def stem(self) -> str:
        """The file's name in lower case without its ending."""
        return self.path.stem.lower()

    def read(self, required: Iterable[str]) -> pd.DataFrame:
        """Read every cell as stripped text.

        Args:
            required: columns that must be there.

        Returns:
            one row for each line, all columns str; an empty cell is the empty string.

        Raises:
            DataError: the file cannot be read, is empty, or lacks a column.
        """
        return read_table(self.path, required)


@dataclass(frozen=True)
class Folder:
    """What lies anywhere below a folder.

    Attributes:
        root: the folder.
        tables: its CSV files, in order of their path.
        images: path by image id, which is the file's name without its ending. Of two files of
            the same name the first in order of path counts: some copies of the Kaggle archive
            hold every image twice.
        masks: path by image id.
    """

    root: Path
    tables: tuple[Table, ...]
    images: dict[str, str]
    masks: dict[str, str]

    @classmethod
    def scan(cls, root: Path) -> Self:
        """Walk the folder once, following links, leaving out hidden and resource-fork files.

        Raises:
            DataError: it is not a folder, or holds no file.
        """
        root = root.resolve()
        if not root.is_dir():
            raise DataError(
                f"data folder {root} does not exist" if not root.exists() else f"{root} is a file",
                hint="give the folder that the data set was unpacked to",
            )
        found = sorted(_walk(root))
        if not found:
            raise DataError(
                f"data folder {root} is empty", hint="unpack the data set's archive into it"
            )
        tables: list[Table] = []
        images: dict[str, str] = {}
        masks: dict[str, str] = {}
        for folder, name in found:
            lower = name.lower()
            suffix = Path(lower).suffix
            path = str(Path(folder) / name)
            in_mask_folder = _MASK_FOLDER in os.path.relpath(folder, root).lower()
            if lower.endswith(_MASK_ENDING):
                if in_mask_folder:
                    masks.setdefault(name[: -len(_MASK_ENDING)], path)
            elif suffix in IMAGE_SUFFIXES:
                if not in_mask_folder:
                    images.setdefault(name[: -len(suffix)], path)
            elif suffix in _TABLE_SUFFIXES or lower == _TABLE_WITHOUT_SUFFIX:
                tables.append(Table(Path(path), _columns(Path(path))))
        return cls(root, tuple(tables), images, masks)


def _walk(root: Path) -> Iterable[tuple[str, str]]:
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above it
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [s for s in subfolders if not s.startswith((".", "__MACOSX"))]
        yield from ((folder, name) for name in names if not name.startswith("."))


def _columns(path: Path) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline(_HEADER_LIMIT)
    except UnicodeDecodeError:
        return ()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    cells = next(csv.reader([header], delimiter=_delimiter(header)), [])
    return tuple(cell.strip() for cell in cells)


def _delimiter(header: str) -> str:
    # Dataverse serves HAM10000's metadata as .tab, with commas inside or with tabs.
    return "\t" if "\t" in header and "," not in header else ","


def read_table(path: Path, required: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file as text. As ``Table.read``, for a file that no scan has found."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline(_HEADER_LIMIT))
            file.seek(0)
            table = pd.read_csv(
                file, sep=delimiter, dtype=str, keep_default_na=False, index_col=False
            )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty", hint="unpack or download it again") from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}", hint="it must be UTF-8 text"
        ) from error
    table.columns = [str(column).strip() for column in table.columns]
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise DataError(
            f"{path} lacks the column {missing[0]!r}",
            hint=f"it needs {', '.join(required)} and has {', '.join(table.columns)}",
        )
    if table.empty:
        raise DataError(f"{path} has a header and no rows", hint="unpack or download it again")
    # A line that is too short still comes as NaN.
    stripped = {column: table[column].fillna("").str.strip() for column in table.columns}
    return pd.DataFrame(stripped)
