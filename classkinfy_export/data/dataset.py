"""A data set, opened from whatever layout it lies in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from classkinfy_export.data.folder import Folder
from classkinfy_export.data.ham10000 import HAM10000, ISIC2018
from classkinfy_export.data.pad_ufes import PADUFES20
from classkinfy_export.data.records import Layout
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

LAYOUTS: tuple[Layout, ...] = (HAM10000(), ISIC2018(), PADUFES20())

Progress = Callable[[int, int], None]
"""Called with (done, total) after each image."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images on disk with their diagnoses.

    Attributes:
        name: the layout's, for example ``HAM10000``.
        root: the folder it was opened from, absolute; of a join, the one that holds all.
        records: index ``image_id`` (str, unique, sorted); columns ``path`` (str, absolute),
            ``dx`` (str, among the taxonomy's classes), ``lesion_id`` (str: what a split keeps
            together), ``mask`` (str path or None), ``age`` (float, years, NaN when unknown),
            ``sex`` and ``site`` (str, ``unknown`` when not given).
        taxonomy: the classes.
        members: the data sets that it was joined from, if it was.
    """

    name: str
    root: Path
    records: pd.DataFrame
    taxonomy: Taxonomy
    members: tuple[Dataset, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) over the sorted lines ``image_id,dx,lesion_id``, LF-ended.

        It changes with any label or group, and not with the place or bytes of the images.
        """
        columns = zip(
            self.records.index, self.records["dx"], self.records["lesion_id"], strict=True
        )
        lines = sorted(f"{image_id},{dx},{lesion}\n" for image_id, dx, lesion in columns)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_dataset(folder: Path, taxonomy: Taxonomy) -> bool:
    """Whether any layout takes a table below a folder for its own."""
    tables = Folder.scan(folder).tables
    return any(layout.claim(table, taxonomy) for layout in LAYOUTS for table in tables)


def open_dataset(folder: Path, taxonomy: Taxonomy) -> Dataset:
    """Find out the folder's layout and read its records. No image is opened.

    Args:
        folder: where the data set was unpacked.
        taxonomy: the diagnoses allowed.

    Raises:
        DataError: no layout fits, several tables do, or the layout's table is wrong.
    """
    scan = Folder.scan(folder)
    claims = [(layout.claim(t, taxonomy), layout, t) for layout in LAYOUTS for t in scan.tables]
    best = max((claim for claim, _, _ in claims), default=0)
    if best == 0:
        empty = [t.path for t in scan.tables if not t.path.stat().st_size]
        raise DataError(
            f"{empty[0]} is empty" if empty else f"{scan.root} holds no metadata that is known",
            hint="supported layouts: " + "; ".join(layout.description for layout in LAYOUTS),
        )
    fitting = [(layout, table) for claim, layout, table in claims if claim == best]
    if len(fitting) > 1:
        raise DataError(
            f"{scan.root} holds several data sets:"
            f" {', '.join(str(table.path.relative_to(scan.root)) for _, table in fitting)}",
            hint="give the folder of one of them, or keep one table",
        )
    layout, table = fitting[0]
    return Dataset(layout.name, scan.root, layout.records(scan, table, taxonomy), taxonomy)


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Make one data set of several of the same taxonomy.

    Args:
        datasets: at least one.

    Raises:
        DataError: an image or a lesion is in two of them: a split could not keep it together.
    """
    first, *others = datasets
    if not others:
        return first
    records = pd.concat([dataset.records for dataset in datasets])
    if records.index.has_duplicates:
        twice = records.index[records.index.duplicated()][0]
        raise DataError(f"image {twice} is in two of the data sets", hint="give each once")
    lesions = pd.concat([dataset.records["lesion_id"].drop_duplicates() for dataset in datasets])
    if lesions.duplicated().any():
        raise DataError(
            f"lesion {lesions[lesions.duplicated()].iloc[0]} is in two of the data sets",
            hint="rename it in one, or join the tables where it is the same lesion",
        )
    name = " + ".join(dataset.name for dataset in datasets)
    root = Path(os.path.commonpath([dataset.root for dataset in datasets]))
    return Dataset(name, root, records.sort_index(), first.taxonomy, tuple(datasets))


def check_images(dataset: Dataset, progress: Progress | None = None) -> None:
    """Decode every image fully, so that a broken one is found before hours of training.

    Pillow tells truncated and undecodable files. Flipped bits in the middle of a JPEG that still
    decodes are not seen.

    Args:
        dataset: its images are read, one at a time; masks are not.
        progress: called with (done, total) after each image.

    Raises:
        DataError: the first image, by id, that cannot be decoded.
    """
    for done, path in enumerate(dataset.records["path"], start=1):
        try:
            with Image.open(path) as image:
                image.load()
        # Pillow's decoders raise SyntaxError and ValueError too for broken headers and chunks.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"image {path} is truncated or corrupt: {error}",
                hint="unpack or download it again, or remove its row from the metadata",
            ) from error
        if progress is not None:
            progress(done, len(dataset))
