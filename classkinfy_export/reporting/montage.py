"""Photos of one class with what the classifier looked at, side by side in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from classkinfy_export.frame import Pixels
from classkinfy_export.reporting.examples import data_uri

_WIDTH, _FRAME, _COLUMNS = 180, 6, 4
_RIGHT, _WRONG = (46, 125, 50), (198, 40, 40)


@dataclass(frozen=True)
class Tile:
    """One photo of a class."""

    overlay: Pixels
    """uint8 [h, w, 3], the photo with the heat over it."""
    probability: float
    """Of the class."""
    right: bool
    """Whether the class was the most probable one."""


@dataclass(frozen=True)
class Montage:
    """The photos of one class."""

    dx: str
    tiles: tuple[Tile, ...]

    @property
    def right(self) -> int:
        """How many the classifier told right."""
        return sum(tile.right for tile in self.tiles)

    @property
    def picture(self) -> str:
        """A JPEG data URI: the photos in rows of four, framed green if told right, else red."""
        return data_uri(draw(self.tiles))


def draw(tiles: tuple[Tile, ...]) -> Image.Image:
    """Lay tiles out in rows of four, each framed in green or red."""
    height, width = tiles[0].overlay.shape[:2]
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    columns, rows = min(_COLUMNS, len(tiles)), -(-len(tiles) // _COLUMNS)
    step = (size[0] + 2 * _FRAME, size[1] + 2 * _FRAME)
    canvas = Image.new("RGB", (columns * step[0], rows * step[1]), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        left, top = column * step[0], row * step[1]
        frame = Image.new("RGB", (step[0] - 2, step[1] - 2), _RIGHT if tile.right else _WRONG)
        canvas.paste(frame, (left + 1, top + 1))
        small = Image.fromarray(np.asarray(tile.overlay)).resize(size, Image.Resampling.LANCZOS)
        canvas.paste(small, (left + _FRAME, top + _FRAME))
    return canvas
