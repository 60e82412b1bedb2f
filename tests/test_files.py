"""Files and folders are written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from classkinfy_export import files
from classkinfy_export.errors import ClasskinfyError


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with files.new_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_folder_leaves_nothing_and_keeps_the_old_one(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "bundle"

    def fill(overwrite: bool) -> None:
        with files.new_folder(target, overwrite=overwrite) as folder:
            (folder / "a").write_text("1")
            raise error

    with pytest.raises(error):
        fill(overwrite=False)
    assert list(tmp_path.iterdir()) == []

    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(error):
        fill(overwrite=True)
    assert [p.name for p in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_there_is_replaced_only_on_request(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    with files.new_folder(target) as folder:  # empty is free
        (folder / "a").write_text("1")
    with pytest.raises(ClasskinfyError, match="already exists"), files.new_folder(target):
        pass
    with files.new_folder(target, overwrite=True) as folder:
        (folder / "b").write_text("2")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupt_while_the_old_folder_goes_leaves_only_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").write_text("old")
    remove, interrupts = shutil.rmtree, [KeyboardInterrupt]

    def interrupted(path: Path, **options: bool) -> None:
        if interrupts and path.name.endswith(".old"):
            raise interrupts.pop()
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted)

    def fill() -> None:
        with files.new_folder(target, overwrite=True) as folder:
            (folder / "new").write_text("new")

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert [p.name for p in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]
