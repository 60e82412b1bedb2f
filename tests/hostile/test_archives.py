"""Bundles made to hurt who opens them: bombs, names and links that lead out, types and numbers."""

from __future__ import annotations

import json
import re
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import make_bundle

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import MANIFEST, Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError

OUT = ("../outside", "/tmp/classkinfy-outside", "a/../../outside", "..\\outside", "C:/outside")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle").path


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bundle.ckb"
    writer.pack(folder, path)
    return path


def refused(path: Path, message: str) -> ClasskinfyError:
    """Open a bundle: the refusal is quick, is one line and says what to do."""
    start = time.process_time()
    with pytest.raises(BundleError, match=message) as raised:
        Bundle.open(path)
    assert time.process_time() - start < 5
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 4000
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize("name", OUT)
def test_a_member_that_leads_out_of_an_archive_is_written_nowhere(
    name: str, archive: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(name, "out")
    # It is not pinned, so it is not read; what is written anew leaves it out, or keeps it inside.
    before = {path for path in tmp_path.rglob("*") if path != archive}
    writer.add_evidence(Bundle.open(archive), "latency", {"p50": 1})
    assert {path for path in tmp_path.rglob("*") if path != archive} == before
    assert not Path("/tmp/classkinfy-outside").exists()
    with zipfile.ZipFile(archive) as zipped:
        assert not [n for n in zipped.namelist() if ".." in n.split("/") or n.startswith("/")]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb", bytes(2**26))
    assert archive.stat().st_size < 2**20
    refused(archive, "compressed.*zip it with -0")


def test_many_names_for_the_same_bytes_are_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as zipped:
        zipped.writestr("bomb", bytes(2**20))
    data = bytearray(archive.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    count, _, size, start = struct.unpack_from("<HHII", data, end + 8)
    entry = data[data.rindex(b"PK\x01\x02") : end]
    more = [bytes(entry).replace(b"bomb", f"b{i:03d}".encode()) for i in range(500)]
    tail = bytearray(data[end:])
    added = b"".join(more)
    struct.pack_into("<HHII", tail, 8, count + 500, count + 500, size + len(added), start)
    archive.write_bytes(bytes(data[:end]) + added + bytes(tail))
    with zipfile.ZipFile(archive) as zipped:
        assert sum(m.file_size for m in zipped.infolist()) > 500 * 2**20
    refused(archive, "holds more than its own size")


def test_a_link_in_an_archive_is_bytes_and_followed_nowhere(archive: Path, folder: Path) -> None:
    pinned = next(iter(Bundle.open(folder).manifest.files))
    with zipfile.ZipFile(archive) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == pinned else 0o644) << 16
            new.writestr(info, str(folder / pinned) if name == pinned else data)
    refused(archive, f"{pinned} has .* bytes, the manifest says")


def test_a_name_that_is_there_twice_is_refused(archive: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "a") as zipped:
        warnings.simplefilter("ignore")
        zipped.writestr(MANIFEST, "{}")
    refused(archive, "names a file twice")


def sealed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a manifest, whatever comes of it."""
    path = folder / MANIFEST
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    return folder


def _pin(name: str, size: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    entry = {"sha256": "0" * 64, "size_bytes": size}
    return lambda m: m | {"files": m["files"] | {name: entry}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: "[" * 200_000, "is not JSON"),
        (lambda m: json.dumps(m)[:-1] + ', "x": ' + "9" * 5000 + "}", "is not JSON"),
        (lambda m: json.dumps(m).replace('"stages": [', '"stages": [[], ', 1), "stages"),
        (lambda m: m | {"x" * 100_000: 1}, "unknown key"),
        (lambda m: m | {"capture": {"height": 10**30, "width": 1e308}}, "capture"),
        (lambda m: m | {"capture": {"height": -1, "width": 1}}, "capture"),
        (lambda m: m | {"files": [m["files"]]}, "files"),
        (lambda m: m | {"name": "\ud800"}, "half a character"),
        (_pin("huge", 2**40), "size_bytes"),
        (_pin("huge", float("inf")), "size_bytes"),
        (_pin("x" * 300, 1), "changed|missing"),
        (_pin("a/" * 3000 + "b", 1), "changed|missing"),
        (lambda m: m | {"taxonomy": {"classes": [f"c{i}" for i in range(10**5)]}}, "taxonomy"),
    ],
)
def test_wrong_types_and_huge_numbers_are_refused(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    refused(sealed(folder, change), message)


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "b", "nul\0byte"])
def test_a_pinned_name_that_no_disk_holds_is_missing(name: str, folder: Path) -> None:
    manifest = Bundle.open(folder).manifest
    entry = next(iter(manifest.files.values()))
    files = manifest.files | {name: entry}
    writer.seal(folder, manifest.model_copy(update={"files": files}))
    refused(folder, "is missing")


def test_a_file_that_cannot_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")  # root may read anything: not by chmod

    monkeypatch.setattr(Path, "read_bytes", refuse)
    refused(folder, "manifest.json cannot be read: Permission denied")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path) -> None:
    import os

    name = next(iter(Bundle.open(folder).manifest.files))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, f"{re.escape(name)} is missing")


def test_a_manifest_is_never_more_than_its_bound(folder: Path) -> None:
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(2**34)  # takes no room on the disk, and would in memory
    refused(folder, "bytes, which no bundle needs")


def test_half_a_character_is_refused_however_it_is_written(folder: Path) -> None:
    text = (folder / MANIFEST).read_bytes()
    for half in (b"\\ud800", b"\xed\xa0\x80"):
        (folder / MANIFEST).write_bytes(text.replace(b'"tiny"', b'"' + half + b'"', 1))
        refused(folder, "half a character|is not JSON")


@pytest.mark.parametrize("name", ["\U0001f600", "C:\\udata"])
def test_a_whole_character_may_be_escaped(name: str) -> None:
    made = {"schema_version": 10**6, "name": name}
    with pytest.raises(BundleError, match="install a newer"):  # so it was read
        Manifest.from_bytes(json.dumps(made).encode(), "manifest")


def test_a_member_under_another_name_than_its_own_is_refused_briefly(archive: Path) -> None:
    data = archive.read_bytes()
    at = data.index(b"PK\x03\x04")
    length = int.from_bytes(data[at + 26 : at + 28], "little")
    name = data[at + 30 : at + 30 + length]
    wrong = data[: at + 26] + (60_000).to_bytes(2, "little") + data[at + 28 : at + 30]
    archive.write_bytes(wrong + name + b"\xff" * (60_000 - length) + data[at + 30 + length :])
    refused(archive, "is not a bundle|is damaged|is missing")


def test_what_is_refused_names_no_more_than_can_be_read() -> None:
    with pytest.raises(BundleError) as raised:
        Manifest.from_bytes(json.dumps({"k" * 10**6: 1}).encode(), "manifest.json")
    assert len(str(raised.value)) < 4000
