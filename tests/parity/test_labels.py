"""Labels of photos, from a user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from classkinfy_export.errors import DataError
from classkinfy_export.parity.labels import Label, Labels
from classkinfy_export.taxonomy import Taxonomy


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> Labels:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return Labels.read(path)


def test_a_photo_without_a_lesion_is_a_lesion_of_its_own(tmp_path: Path) -> None:
    found = read(tmp_path, "lesion_id,image_id,dx,age\nL1,a,mel,50\n,b,nv,\n", "utf-8-sig")
    assert found.of == {"a": Label("mel", "L1"), "b": Label("nv", "b")}
    assert read(tmp_path, "image_id,dx\na,mel\n").of == {"a": Label("mel", "a")}


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        ("image_id,diagnosis\na,mel\n", "utf-8", "has no column dx"),
        ("", "utf-8", "has no column dx and no image_id"),
        ("image_id,dx\na,mel\na,nv\n", "utf-8", "names 'a' twice"),
        ("image_id,dx\n\u00e4,mel\n", "latin-1", "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_one_line(
    tmp_path: Path, text: str, encoding: str, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read(tmp_path, text, encoding)


def test_labels_of_other_photos_or_classes_are_refused(tmp_path: Path) -> None:
    found = read(tmp_path, "image_id,dx\na,melanoma\nb,mel\n")
    found.check(Taxonomy(), ["b", "c"])
    with pytest.raises(DataError, match="no label for any of the 1 images"):
        found.check(Taxonomy(), ["c"])
    with pytest.raises(DataError, match="says that a is 'melanoma': the bundle knows akiec"):
        found.check(Taxonomy(), ["a"])
