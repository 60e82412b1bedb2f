"""Bundles that were changed, cut or forged: one line, exit code 2, nothing followed or run."""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from listing import listing

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError

Classkinfy = Callable[..., Any]


def contents(path: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    found = (p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x01
    path.write_bytes(data)


def _pinned(suffix: str, bundle: Path) -> str:
    names = json.loads((bundle / "manifest.json").read_text())["files"]
    return next(name for name in names if name.endswith(suffix))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".safetensors", ".gz", ".md", ".cdx.json"])
@pytest.mark.parametrize("damage", ["changed", "missing", "longer"])
def test_one_changed_file_of_a_bundle_is_found(
    suffix: str, damage: str, bundle: Path, classkinfy: Classkinfy
) -> None:
    name = _pinned(suffix, bundle)
    path = bundle / name
    if damage == "changed":
        flip(path, path.stat().st_size // 2)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    classkinfy("inspect", bundle).refused(bundle.name, name, "export it again")


@pytest.mark.parametrize(
    "verb",
    [
        *(("inspect",), ("verify",), ("bench",), ("report",), ("predict", "photo.jpg")),
        ("localise", "--runtime", "onnxruntime"),
    ],
)
def test_every_verb_refuses_a_bundle_with_one_byte_changed(
    verb: tuple[str, ...],
    bundle: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    flip(bundle / "models/onnx/classify.onnx", 5000)
    before = contents(tmp_path)
    ran = classkinfy(verb[0], bundle, *verb[1:])
    ran.refused("models/onnx/classify.onnx was changed", "copy the bundle again")
    assert contents(tmp_path) == before


def _traversal(path: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda m: m | {"files": m["files"] | {path: next(iter(m["files"].values()))}}


def _takes(place: int, tensor: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(manifest: dict[str, Any]) -> dict[str, Any]:
        inputs = manifest["stages"][place]["inputs"]
        inputs.append(inputs[0] | {"name": tensor})
        return manifest

    return change


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda m: json.dumps(m)[:500], ("is not JSON", "export it again")),
        (lambda m: "", ("is not JSON", "export it again")),
        (lambda m: [], ("dictionary", "export it again")),
        (lambda m: m | {"capture": "large"}, ("capture", "export it again")),
        (lambda m: m | {"hair_removal": {}}, ("hair_removal", "export it again")),
        (lambda m: m | {"colour": 1}, ("unknown key 'colour'", "export it again")),
        (lambda m: m | {"files": {}}, ("has no hash under 'files'", "export it again")),
        (lambda m: m | {"schema_version": 3}, ("version 3", "newer classkinfy-export")),
        (lambda m: m | {"schema_version": 1}, ("version 1", "export it again")),
        (_traversal("../secret"), ("'../secret' is not a plain relative path",)),
        (_traversal("/etc/passwd"), ("'/etc/passwd' is not a plain relative path",)),
        (_traversal("a/../../b"), ("'a/../../b' is not a plain relative path",)),
        (_traversal("a\\b"), ("is not a plain relative path",)),
        (_traversal("C:/x"), ("'C:/x' is not a plain relative path",)),
        # A ring of two stages, one of a stage alone, and what is of another grader.
        (_takes(0, "probabilities"), ("prepare takes 'probabilities', which no stage before",)),
        (_takes(1, "preliminary"), ("stage screen takes 'preliminary'", "export it again")),
        (_takes(-1, "severity"), ("takes 'severity', which no stage before it gives",)),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(
    change: Callable[[dict[str, Any]], object],
    fragments: tuple[str, ...],
    bundle: Path,
    classkinfy: Classkinfy,
) -> None:
    manifest = bundle / "manifest.json"
    changed = change(json.loads(manifest.read_text()))
    manifest.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    classkinfy("inspect", bundle).refused("manifest.json", *fragments)


def test_what_is_no_bundle_is_refused(classkinfy: Classkinfy, tmp_path: Path, photo: Path) -> None:
    gone = tmp_path / "gone"
    classkinfy("inspect", gone).refused(gone, "does not exist", "'classkinfy export'")
    classkinfy("inspect", tmp_path).refused("has no manifest.json", "'classkinfy export'")
    classkinfy("inspect", photo).refused(photo, "not a bundle", "a directory or a .ckb file")


def test_a_link_that_leads_out_of_a_bundle_is_not_followed(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    model = bundle / "models/onnx/classify.onnx"
    outside = model.rename(tmp_path / "outside.onnx")
    model.symlink_to(outside)
    # The bytes are those that were pinned, and could change after they were checked.
    classkinfy("inspect", bundle).refused("models/onnx/classify.onnx is missing")


def test_evidence_is_not_written_through_a_link_out_of_the_bundle(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / "evidence").symlink_to(tmp_path / "elsewhere")
    ran = classkinfy("verify", bundle, "--json")
    assert "leads out of the bundle: delete the link" in ran.error()
    assert ran.exit_code == 2
    assert listing(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\xff", "[1]", "{}"])
def test_evidence_that_cannot_be_read_counts_as_none(
    content: str, bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (bundle / "evidence").mkdir()
    (bundle / "evidence/parity.json").write_text(content, encoding="latin-1")
    (tmp_path / "x.json").write_text("{}")
    (bundle / "evidence/latency.json").symlink_to(tmp_path / "x.json")
    ran = classkinfy("inspect", bundle, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["evidence"] == {}


@pytest.fixture
def archive(bundle: Path, tmp_path: Path) -> Path:
    """The bundle as .ckb."""
    path = tmp_path / "bundle.ckb"
    writer.pack(bundle, path)
    return path


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (lambda data: data[: len(data) // 2], ("is not a bundle", "a directory or a .ckb file")),
        (lambda data: b"", ("is not a bundle", "a directory or a .ckb file")),
        (
            lambda data: data[:300_000] + bytes([data[300_000] ^ 1]) + data[300_001:],
            ("damaged", "copy the bundle again"),
        ),
    ],
    ids=["truncated", "empty", "byte"],
)
def test_a_damaged_archive_is_refused(
    damage: Callable[[bytes], bytes],
    fragments: tuple[str, ...],
    archive: Path,
    classkinfy: Classkinfy,
) -> None:
    assert classkinfy("inspect", archive).exit_code == 0
    archive.write_bytes(damage(archive.read_bytes()))
    classkinfy("inspect", archive).refused(*fragments)


def test_an_archive_that_names_a_file_twice_is_refused(
    archive: Path, classkinfy: Classkinfy
) -> None:
    with zipfile.ZipFile(archive, "a") as zipped, pytest.warns(UserWarning, match="Duplicate"):
        zipped.writestr("MODEL_CARD.md", "another card")
    classkinfy("inspect", archive).refused(archive, "names a file twice", "export it again")


def test_no_byte_of_an_archives_directory_can_crash_the_reader(archive: Path) -> None:
    data = archive.read_bytes()
    start = data.index(b"PK\x01\x02")
    random.seed(0)
    outcomes = set()
    for position in random.sample(range(start, len(data)), 150):
        # 0x80 finds encodings and versions, 0x01 the flag of encryption, 0x08 that of compression.
        changed = bytearray(data)
        changed[position] ^= random.choice((0x01, 0x08, 0x80))
        archive.write_bytes(changed)
        try:
            opened = Bundle.open(archive)
        except BundleError:
            outcomes.add("refused")
        else:
            outcomes.add("opened")
            for name, entry in opened.manifest.files.items():
                assert hashlib.sha256(opened.read(name)).hexdigest() == entry.sha256
    assert outcomes == {"refused", "opened"}


def test_a_manifest_with_one_byte_changed_is_refused(bundle: Path, classkinfy: Classkinfy) -> None:
    manifest = bundle / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"above": 0.15', '"above": 0.05', 1))
    assert manifest.read_text() != text
    classkinfy("inspect", bundle).refused("manifest.json was changed", "export it again")
