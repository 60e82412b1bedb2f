"""A montage: every photo once, framed by whether it was told right."""

from __future__ import annotations

import numpy as np
import pytest

from classkinfy_export.reporting.montage import Montage, Tile, draw


def tile(level: int, right: bool) -> Tile:
    return Tile(np.full((45, 60, 3), level, np.uint8), 0.5, right)


@pytest.mark.parametrize(("photos", "rows", "columns"), [(1, 1, 1), (4, 1, 4), (5, 2, 4)])
def test_photos_lie_in_rows_of_four_in_order(photos: int, rows: int, columns: int) -> None:
    tiles = tuple(tile(20 * n, right=n % 2 == 0) for n in range(1, photos + 1))
    drawn = np.asarray(draw(tiles)).astype(int)
    height, width = drawn.shape[0] // rows, drawn.shape[1] // columns
    assert (height, width) == (135 + 12, 180 + 12)
    for number, given in enumerate(tiles):
        row, column = divmod(number, 4)
        cell = drawn[row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert (cell[40:-40, 40:-40] == 20 * (number + 1)).all()
        red, green = cell[3, 40, :2]
        assert (green > red) == given.right


def test_right_ones_are_counted_and_the_picture_is_inline() -> None:
    montage = Montage("mel", (tile(9, True), tile(9, False), tile(9, True)))
    assert montage.right == 2
    assert montage.picture.startswith("data:image/jpeg;base64,")
