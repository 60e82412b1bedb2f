"""HAM10000 as people have it: the Kaggle or Dataverse archive, or ISIC 2018's task 3.

Tschandl, Rosendahl, Kittler, Sci. Data 5:180161 (2018), doi:10.1038/sdata.2018.161. A lesion has
up to six images: it, not the image, is what a split may move.
"""

from __future__ import annotations

import pandas as pd

from classkinfy_export.data.folder import Folder, Table
from classkinfy_export.data.records import assemble, refuse_two_diagnoses
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

_REQUIRED = ("lesion_id", "image_id", "dx")


class HAM10000:
    """A metadata table with ``lesion_id``, ``image_id``, ``dx``; images anywhere below."""

    name = "HAM10000"
    description = (
        "HAM10000: HAM10000_metadata.csv (lesion_id, image_id, dx) and .jpg or .png images in any "
        "sub-folder, as the Kaggle archive unpacks"
    )

    def claim(self, table: Table, taxonomy: Taxonomy) -> int:
        """Claim a table by its name, else by its columns."""
        if table.stem.startswith("ham10000_metadata"):
            return 3
        columns = set(table.columns)
        if "part" in columns:  # a split that this package wrote
            return 0
        whole = columns.issuperset(_REQUIRED)
        named = "metadata" in table.stem and bool(columns & {"image_id", "dx"})
        return int(whole or named)

    def records(self, folder: Folder, table: Table, taxonomy: Taxonomy) -> pd.DataFrame:
        """Return checked records.

        Raises:
            DataError: as ``records.assemble``, or a lesion with two diagnoses.
        """
        rows = table.read(_REQUIRED).rename(columns={"localization": "site"})
        records = assemble(rows, folder, table.path, taxonomy)
        refuse_two_diagnoses(records["lesion_id"], records["dx"], table.path)
        return records


class ISIC2018:
    """A one-hot ground truth: ``image``, then a column of 0.0 and 1.0 for each diagnosis.

    Lesions come from ``*LesionGroupings.csv`` (``image``, ``lesion_id``). Without that file each
    image counts as a lesion of its own, and images of one lesion may then meet in train and test.
    """

    name = "ISIC2018"
    description = (
        "ISIC 2018 task 3: a one-hot *GroundTruth.csv (image, MEL, NV, ...), an image folder and, "
        "for lesion groups, *LesionGroupings.csv"
    )

    def claim(self, table: Table, taxonomy: Taxonomy) -> int:
        """Claim a table by ``image`` and the name ``*GroundTruth`` or a column of a class."""
        if "image" not in table.columns or "lesion_id" in table.columns:
            return 0
        if table.stem.endswith("groundtruth"):
            return 2
        return int(any(column.lower() in taxonomy.classes for column in table.columns))

    def records(self, folder: Folder, table: Table, taxonomy: Taxonomy) -> pd.DataFrame:
        """Return checked records.

        Raises:
            DataError: as ``records.assemble``; a class without a column, a row without exactly
                one 1, an image that the lesion groups leave out, a lesion with two diagnoses.
        """
        rows = table.read(("image", *(dx.upper() for dx in taxonomy.classes)))
        one_hot = rows.drop(columns="image").apply(pd.to_numeric, errors="coerce")
        wrong = ~(one_hot.isin([0, 1]).all(axis=1) & (one_hot.sum(axis=1) == 1))
        if wrong.any():
            raise DataError(
                f"{table.path} does not give image {rows['image'][wrong].iloc[0]} exactly one 1 "
                f"({int(wrong.sum())} rows are wrong)",
                hint="each row holds one 1.0 and 0.0 elsewhere",
            )
        rows = pd.DataFrame(
            {"image_id": rows["image"], "dx": one_hot.idxmax(axis=1).astype(str).str.lower()}
        )
        rows["lesion_id"] = _lesions(folder, rows["image_id"])
        records = assemble(rows, folder, table.path, taxonomy)
        refuse_two_diagnoses(records["lesion_id"], records["dx"], table.path)
        return records


def _lesions(folder: Folder, image_id: pd.Series[str]) -> pd.Series[str]:
    tables = [t for t in folder.tables if t.stem.endswith("lesiongroupings")]
    if not tables:
        return image_id
    groups = pd.concat([t.read(("image", "lesion_id")) for t in tables])
    pairs = groups[["image", "lesion_id"]].drop_duplicates()
    names = ", ".join(str(t.path) for t in tables)
    twice = pairs.loc[pairs["image"].duplicated(), "image"]
    if len(twice):
        raise DataError(
            f"{names} gives the image {twice.iloc[0]} two lesions", hint="correct the table"
        )
    lesion = image_id.map(pairs.set_index("image")["lesion_id"])
    if lesion.isna().any():
        raise DataError(
            f"{names} names no lesion for image {image_id[lesion.isna()].iloc[0]} "
            f"({int(lesion.isna().sum())} images have none)",
            hint="use the groups of the same part as the ground truth, or remove the file",
        )
    return lesion
