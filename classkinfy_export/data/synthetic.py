"""Synthetic dermoscopy, good enough to learn from: one image, or a folder like HAM10000's.

For demonstrations and tests where no real data is at hand. The pictures have the look of the
seven classes and carry no medical information: nothing learned from them holds for patients.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from classkinfy_export import files
from classkinfy_export.data import dermoscope
from classkinfy_export.data.lesion import STYLES, Canvas, as_bytes
from classkinfy_export.errors import DataError
from classkinfy_export.taxonomy import Taxonomy

CLASSES = Taxonomy().classes
"""The classes that can be drawn: the default taxonomy's."""

_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
_PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
_MASKS = "HAM10000_segmentations_lesion_tschandl"
_SITES = ("abdomen", "back", "chest", "face", "lower extremity", "trunk", "upper extremity")
_RESHOT_SHARE = 0.4
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Lesion:
    """One synthetic image and what was painted on it.

    Attributes:
        image: uint8 [H, W, 3] RGB, 0..255.
        mask: uint8 [H, W], 255 on the lesion, 0 elsewhere.
        hair: uint8 [H, W], 255 where hair covers a quarter of the pixel or more, 0 elsewhere.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    hair: npt.NDArray[np.uint8]


def lesion(
    dx: str,
    seed: int,
    *,
    height: int = 450,
    width: int = 600,
    hair: float = 0.35,
    ruler: bool | None = None,
    vignette: bool | None = None,
    shot: int = 0,
) -> Lesion:
    """Draw one image; the same arguments give the same bytes.

    Args:
        dx: the class, one of ``CLASSES``.
        seed: which lesion, on which skin; 0 or more.
        height: rows, at least 64.
        width: columns, at least 64.
        hair: probability, 0..1, that there is hair; in one hairy image of seven it covers more
            than 15 % of the picture.
        ruler: whether tick marks run along an edge; None leaves it to the seed.
        vignette: whether the corners are dark; None leaves it to the seed.
        shot: which photograph of this lesion, 0 or more. Later ones are turned, shifted and zoomed
            a little, with hair, light and noise of their own.

    Raises:
        DataError: ``dx`` is not a class, or a number is out of its range.
    """
    if dx not in CLASSES:
        raise DataError(f"cannot draw {dx!r}", hint=f"the classes are {', '.join(CLASSES)}")
    if height < 64 or width < 64 or not 0 <= hair <= 1 or seed < 0 or shot < 0:
        raise DataError(
            f"cannot draw height={height}, width={width}, hair={hair}, seed={seed}, shot={shot}",
            hint="sides are 64 or more, hair is 0..1, seed and shot are 0 or more",
        )

    def stream(part: int, of_shot: int = shot) -> np.random.Generator:
        return np.random.default_rng((part, of_shot, CLASSES.index(dx), seed))

    canvas = Canvas(stream(1, of_shot=0), height, width, STYLES[dx])
    STYLES[dx].paint(canvas)
    rgb, mask = canvas.picture, canvas.mask
    if shot > 0:
        picture, outline = dermoscope.reframe(
            stream(2), Image.fromarray(as_bytes(rgb)), Image.fromarray(mask)
        )
        rgb = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
        mask = np.array(outline)
    covered = dermoscope.hair(stream(3), rgb, hair)
    dermoscope.ruler(stream(4), rgb, ruler)
    dermoscope.corners(stream(5), rgb, vignette)
    return Lesion(dermoscope.expose(stream(6), rgb), mask, covered)


def write_dataset(
    folder: Path,
    *,
    lesions_per_class: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a data set in the layout of Kaggle's HAM10000, with the segmentations beside it.

    ::

        HAM10000_metadata.csv
        HAM10000_images_part_1/SYN_0000001.jpg
        HAM10000_images_part_2/...
        HAM10000_segmentations_lesion_tschandl/SYN_0000001_segmentation.png

    Two lesions in five are photographed twice. The folder appears whole or not at all.

    Args:
        folder: where to; must not exist, or be empty.
        lesions_per_class: 1 or more.
        seed: 0 or more.
        progress: called after each image with the number done and the number in all.

    Returns:
        ``folder``.

    Raises:
        DataError: the folder holds something already, or a number is out of its range.
    """
    if lesions_per_class < 1 or seed < 0:
        raise DataError(
            f"cannot write lesions_per_class={lesions_per_class}, seed={seed}",
            hint="ask for one lesion per class or more, and a seed of 0 or more",
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} is not empty", hint="name a folder that does not exist yet")
    rows = list(_rows(lesions_per_class, seed))
    with files.new_folder(folder) as whole:
        for name in (*_PARTS, _MASKS):
            (whole / name).mkdir()
        for done, row in enumerate(rows):
            one = lesion(row.dx, row.seed, shot=row.shot)
            part = _PARTS[0] if done < (len(rows) + 1) // 2 else _PARTS[1]
            jpeg = whole / part / f"{row.image_id}.jpg"
            Image.fromarray(one.image).save(jpeg, quality=_JPEG_QUALITY)
            Image.fromarray(one.mask).save(whole / _MASKS / f"{row.image_id}_segmentation.png")
            if progress is not None:
                progress(done + 1, len(rows))
        with (whole / "HAM10000_metadata.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(_COLUMNS)
            table.writerows(row.cells for row in rows)
    return folder


@dataclass(frozen=True, slots=True)
class _Row:
    """One image to draw, and its line of the metadata."""

    lesion_id: str
    image_id: str
    dx: str
    patient: tuple[str, str, str]
    seed: int
    shot: int

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.lesion_id, self.image_id, self.dx, "synthetic", *self.patient)


def _rows(lesions_per_class: int, seed: int) -> Iterator[_Row]:
    rng = np.random.default_rng(seed)
    lesions = lesions_per_class * len(CLASSES)
    again = set(rng.permutation(lesions)[: round(_RESHOT_SHARE * lesions)].tolist())
    image = 0
    for number in range(lesions):
        # Classes take turns, so that each part holds every class.
        dx = CLASSES[number % len(CLASSES)]
        drawn_with = int(rng.integers(2**31))
        age = f"{5 * int(rng.integers(4, 18))}.0"
        sex, site = ("female", "male")[rng.integers(2)], _SITES[rng.integers(len(_SITES))]
        for shot in range(2 if number in again else 1):
            image += 1
            yield _Row(
                lesion_id=f"SYNL_{number + 1:07d}",
                image_id=f"SYN_{image:07d}",
                dx=dx,
                patient=(age, sex, site),
                seed=drawn_with,
                shot=shot,
            )
