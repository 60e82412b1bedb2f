"""Train, val, calib and test: stratified by diagnosis, and no lesion in two of them.

Images of one lesion are near copies. The origin splits by image, so that its test set holds
lesions it was trained on, and its accuracy says little about new ones.

Order comes from SHA-256, not from a library's random numbers: the same data and seed give the
same split on every machine and with every version of NumPy, pandas and scikit-learn.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pandas as pd

from classkinfy_export import files
from classkinfy_export.data.dataset import Dataset
from classkinfy_export.data.folder import read_table
from classkinfy_export.errors import DataError
from classkinfy_export.recipes import SplitRecipe

PARTS = ("train", "val", "calib", "test")
COLUMNS = ("image_id", "lesion_id", "dx", "part")
_FILL_ORDER = ("train", "test", "val", "calib")
"""Which part goes without first when a class has fewer lesions than there are parts: the last."""


def split(dataset: Dataset, recipe: SplitRecipe) -> pd.DataFrame:
    """Deal the lesions of each class out to the parts.

    Classes are dealt from the rarest to the most frequent. Within a class, lesions with more
    images come first, and equal ones in the order of ``sha256(f"{seed}:{lesion_id}")``; each goes
    to the part that is furthest below its share of the images dealt so far. So every part gets
    its share of lesions with one, two and more images alike, and the many with one image level
    out what is left: a part's images of a class come within about one lesion of its share.

    A group with several diagnoses (a patient of PAD-UFES-20) is dealt with its rarest one, and
    its other images count where they then lie. A class with fewer lesions than parts fills
    train, test, val, calib, in that order; a part whose share is 0 stays empty.

    Args:
        dataset: the images, their diagnoses and lesions.
        recipe: shares of val, calib, test, and the seed.

    Returns:
        index ``image_id`` as in the data set; columns ``lesion_id``, ``dx``, ``part`` (str).
    """
    records = dataset.records
    # As written in the recipe: in floats, rounding would decide which part wins a tie.
    shares = {part: Fraction(str(getattr(recipe, part))) for part in ("val", "calib", "test")}
    shares["train"] = 1 - sum(shares.values(), Fraction(0))
    lesions: dict[str, Counter[str]] = {}
    for lesion, dx in zip(records["lesion_id"], records["dx"], strict=True):
        lesions.setdefault(lesion, Counter())[dx] += 1
    frequency = Counter(records["dx"])
    rarest_first = sorted(frequency, key=lambda dx: (frequency[dx], dx))
    strata: dict[str, list[str]] = {dx: [] for dx in rarest_first}
    for lesion, images in lesions.items():
        strata[min(images, key=rarest_first.index)].append(lesion)

    dealt: dict[str, Counter[str]] = {dx: Counter() for dx in rarest_first}
    part_of: dict[str, str] = {}
    for dx, members in strata.items():
        members.sort(key=lambda lesion: (-lesions[lesion][dx], _hash(recipe.seed, lesion)))
        for position, lesion in enumerate(members):
            part = _choose(dealt[dx], lesions[lesion][dx], shares, len(members) - position)
            part_of[lesion] = part
            for other, count in lesions[lesion].items():
                dealt[other][part] += count
    frame = records[["lesion_id", "dx"]].copy()
    frame["part"] = [part_of[lesion] for lesion in frame["lesion_id"]]
    return frame


def _choose(
    dealt: Counter[str], images: int, shares: dict[str, Fraction], lesions_left: int
) -> str:
    empty = [part for part in _FILL_ORDER if shares[part] > 0 and not dealt[part]]
    if len(empty) >= lesions_left:
        return empty[0]
    total = dealt.total() + images
    wanted = [part for part in PARTS if shares[part] > 0]
    return max(wanted, key=lambda part: shares[part] * total - dealt[part])


def _hash(seed: int, lesion: str) -> bytes:
    return hashlib.sha256(f"{seed}:{lesion}".encode()).digest()


def write(split_frame: pd.DataFrame, path: Path) -> None:
    """Write ``image_id,lesion_id,dx,part``, sorted by image, LF-ended, in one step.

    Raises:
        DataError: the file exists and holds another split.
    """
    table = split_frame.rename_axis("image_id").sort_index().reset_index()[list(COLUMNS)]
    content = table.to_csv(index=False, lineterminator="\n").encode()
    if path.exists():
        if path.read_bytes() == content:
            return
        raise DataError(
            f"{path} already holds another split",
            hint="weights trained on it are tested by it; write elsewhere, or remove it yourself",
        )
    files.write(path, content)


def read(path: Path, dataset: Dataset, *, of_more: bool = False) -> pd.DataFrame:
    """Read a split and check it against the data set.

    Args:
        path: the split.
        dataset: its images.
        of_more: the split may be of more data than these.

    Returns:
        as ``split``.

    Raises:
        DataError: the file cannot be read; an unknown part; an image that is repeated, left out
            or not in the data set; another lesion or diagnosis; a lesion in two parts.
    """
    table = read_table(path, COLUMNS)[list(COLUMNS)].set_index("image_id")
    records = dataset.records
    remake = "it was made for other data: make the split again, or give the data it was made for"
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise DataError(f"{path} lists image {twice} twice", hint="keep one row for each image")
    unknown_part = ~table["part"].isin(PARTS)
    if unknown_part.any():
        raise DataError(
            f"{path} puts image {table.index[unknown_part][0]} into the unknown part "
            f"{table['part'][unknown_part].iloc[0]!r}",
            hint=f"parts are {', '.join(PARTS)}",
        )
    extra = table.index.difference(records.index)
    if len(extra) and not of_more:
        raise DataError(
            f"{path} lists {len(extra)} images that are not in {dataset.root}, the first is "
            f"{extra[0]}",
            hint=remake,
        )
    absent = records.index.difference(table.index)
    if len(absent):
        raise DataError(
            f"{path} leaves out {len(absent)} images of {dataset.root}, the first is {absent[0]}",
            hint=remake,
        )
    table = table.loc[records.index]
    for column in ("lesion_id", "dx"):
        other = table[column] != records[column]
        if other.any():
            image_id = str(table.index[other][0])
            raise DataError(
                f"{path} gives image {image_id} the {column} {table[column][image_id]}, the data "
                f"set {records[column][image_id]}",
                hint=remake,
            )
    pairs = table[["lesion_id", "part"]].drop_duplicates()
    crossing = pairs.loc[pairs["lesion_id"].duplicated(), "lesion_id"]
    if len(crossing):
        parts = sorted(pairs.loc[pairs["lesion_id"] == crossing.iloc[0], "part"], key=PARTS.index)
        raise DataError(
            f"{path} has the lesion {crossing.iloc[0]} in {' and '.join(parts)}",
            hint="all images of a lesion belong to one part",
        )
    return table
