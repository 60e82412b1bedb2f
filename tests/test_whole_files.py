"""What happens to files and folders when something goes wrong at the worst moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from classkinfy_export import files
from classkinfy_export.errors import ClasskinfyError

Interruptions = pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@Interruptions
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_bytes_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    moment: str,
) -> None:
    path = tmp_path / "report.json"

    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr(*((os, "fsync") if moment == "fsync" else (Path, "replace")), interrupt)
    with pytest.raises(error):
        files.write(path, b"new")
    assert tree(tmp_path) == {}
    path.write_bytes(b"old")
    with pytest.raises(error):
        files.write(path, b"new")
    assert tree(tmp_path) == {"report.json": b"old"}


def test_the_bytes_are_on_the_disk_before_they_have_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append((path.read_bytes(), handle)))
    files.write(path, b"new")
    assert [content for content, _ in seen] == [b"old"]
    assert path.read_bytes() == b"new"


def test_a_file_written_can_be_read_by_others_as_any_file_can(tmp_path: Path) -> None:
    files.write(tmp_path / "deep" / "down" / "report.json", b"new")
    mode = (tmp_path / "deep" / "down" / "report.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o644
    with files.new_folder(tmp_path / "bundle"):
        pass
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o755


def test_a_file_cannot_take_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path / "bundle", b"new")
    assert tree(tmp_path) == {"bundle": None}


@pytest.mark.parametrize("occupied_by", ["file", "folder"])
def test_what_is_there_is_refused_before_any_work_is_done(tmp_path: Path, occupied_by: str) -> None:
    path = tmp_path / "bundle"
    if occupied_by == "file":
        path.write_bytes(b"old")
    else:
        path.mkdir()
        (path / "old").write_bytes(b"old")
    before, worked = tree(tmp_path), False
    with (
        pytest.raises(ClasskinfyError, match=r"already exists: choose another --out") as error,
        files.new_folder(path),
    ):
        worked = True
    assert not worked
    assert str(path) in str(error.value)
    assert tree(tmp_path) == before


def test_a_folder_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "bundle"

    def another_process_is_faster() -> None:
        with files.new_folder(path) as folder:
            (folder / "mine").write_bytes(b"mine")
            path.mkdir()
            (path / "theirs").write_bytes(b"theirs")

    with pytest.raises(ClasskinfyError, match="already exists"):
        another_process_is_faster()
    assert tree(tmp_path) == {"bundle": None, "bundle/theirs": b"theirs"}


@pytest.mark.parametrize("occupied_by", ["file", "folder", "empty folder"])
def test_overwriting_replaces_whatever_it_is(tmp_path: Path, occupied_by: str) -> None:
    path = tmp_path / "bundle"
    if occupied_by == "file":
        path.write_bytes(b"old")
    else:
        path.mkdir()
    if occupied_by == "folder":
        (path / "old").write_bytes(b"old")
    with files.new_folder(path, overwrite=True) as folder:
        (folder / "new").write_bytes(b"new")
    assert tree(tmp_path) == {"bundle": None, "bundle/new": b"new"}


@Interruptions
def test_the_old_folder_is_back_when_the_swap_itself_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "old").write_bytes(b"old")
    rename, swaps = Path.rename, []

    def fail_on_the_second(self: Path, target: Path) -> Path:
        swaps.append(target)
        if len(swaps) == 2:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_the_second)
    with pytest.raises(error), files.new_folder(path, overwrite=True) as folder:
        (folder / "new").write_bytes(b"new")
    assert tree(tmp_path) == {"bundle": None, "bundle/old": b"old"}


def test_overwriting_a_link_replaces_the_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").write_bytes(b"old")
    path = tmp_path / "bundle"
    path.symlink_to("real")
    with files.new_folder(path, overwrite=True) as folder:
        (folder / "new").write_bytes(b"new")
    assert not path.is_symlink()
    assert tree(tmp_path) == {
        "bundle": None,
        "bundle/new": b"new",
        "real": None,
        "real/old": b"old",
    }


def test_a_link_to_nothing_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.symlink_to("nowhere")
    with files.new_folder(path) as folder:
        (folder / "new").write_bytes(b"new")
    assert tree(tmp_path) == {"bundle": None, "bundle/new": b"new"}


def test_the_temporary_folder_is_hidden_and_on_the_same_disk(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "deep" / "bundle") as folder:
        assert folder.parent == tmp_path / "deep"
        assert folder.name.startswith(".bundle.")
