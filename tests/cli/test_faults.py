"""A disk that is full or read-only, and memory that runs out: one line, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from disks import Disk, fill, remount
from listing import listing
from typer.testing import CliRunner

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.taxonomy import DISCLAIMER

COMMAND = Path(sys.executable).with_name("classkinfy")
SMALL = ("--set", "working_size={height: 96, width: 128}")
NETWORK = "classifier.network={architecture: test_efficientnet, weights: none, input_size: 64}"
FULL = ("No space left on device", "free some, or write elsewhere")
LOCKED = ("Read-only file system", "write elsewhere")

Classkinfy = Callable[..., Any]


def conversion(weights: Path, out: Path) -> list[object]:
    """Of weights alone, which takes no time."""
    given = ["--classifier", weights / "classifier.safetensors"]
    given += ["--grader", f"mel={weights / 'grader_mel.safetensors'}"]
    given += ["--screen", weights / "screen.safetensors"]
    given += [*SMALL, "--set", "formats=[pytorch]", "--set", "golden=false"]
    return ["export", *given, "--out", out, "--overwrite"]


@pytest.mark.parametrize("name", ["bundle", "bundle.ckb"])
def test_an_export_that_finds_no_place_keeps_the_old_bundle(
    name: str, weights: Path, classkinfy: Classkinfy, disk: Disk
) -> None:
    folder = disk(4096)
    export = conversion(weights, folder / name)
    assert classkinfy(*export).exit_code == 0
    before = Bundle.open(folder / name).sha256
    fill(folder, leave_kib=100)
    classkinfy(*export, "--set", "name=new").refused(*FULL, folder / name)
    remount(folder, "ro")
    classkinfy(*export, "--set", "name=new").refused(*LOCKED, f".{name}.")
    assert listing(folder) == sorted([name, "other"])
    assert Bundle.open(folder / name).sha256 == before


def test_a_quantisation_that_finds_no_place_leaves_nothing(
    weights: Path, lesions: Path, classkinfy: Classkinfy, disk: Disk, tmp_path: Path
) -> None:
    folder, bundle = disk(200), tmp_path / "bundle"
    assert classkinfy(*conversion(weights, bundle)).exit_code == 0
    options = ("--calibration", lesions, "--set", "calibration.images=4")
    quantize = ("quantize", bundle, *options, "--out", folder / "new")
    classkinfy(*quantize).refused(*FULL, folder / "new")
    assert listing(folder) == []
    remount(folder, "ro")
    classkinfy(*quantize).refused(*LOCKED)


def unreserved(*_: int) -> None:
    """Reserve no place, as on a file system that cannot."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize(
    ("kib", "place", "reserves"),
    [(300, "pixels_64.npy", True), (300, "pixels_64.npy", False), (1100, "run", True)],
)
def test_a_training_that_finds_no_place_goes_on_where_there_is_some(
    kib: int,
    place: str,
    reserves: bool,
    lesions: Path,
    classkinfy: Classkinfy,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 300 KiB for decoded pixels, which are mapped into memory; 1100 for a checkpoint.
    if not reserves:
        monkeypatch.setattr(os, "posix_fallocate", unreserved)
    folder = disk(kib)
    short = ("--set", "classifier.fit.epochs=1", "--set", "graders.fit.epochs=1")
    options = (*SMALL, "--set", NETWORK, *short, "--set", "taxonomy.graded=[mel]")
    train = ("train", "train/smoke.yaml", "--data", lesions, *options, "--out", folder / "run")
    classkinfy(*train).refused(*FULL, place)
    kept = {path: path.read_bytes() for path in (folder / "run").glob("*.*")}
    assert kept
    remount(folder, "size=16m")
    assert classkinfy(*train).exit_code == 0
    assert {path: path.read_bytes() for path in kept} == kept
    remount(folder, "ro")
    other = (*train[:-1], folder / "other")
    classkinfy(*other).refused(*LOCKED)


def test_a_bundle_that_finds_no_place_in_an_app_or_for_a_signature_is_as_it_was(
    bundle: Path, classkinfy: Classkinfy, disk: Disk, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    assert classkinfy("keygen", key).exit_code == 0
    folder = disk(2 * sum(path.stat().st_size for path in bundle.rglob("*")) // 1024)
    archive = folder / "bundle.ckb"
    writer.pack(bundle, archive)
    before = archive.read_bytes()
    classkinfy("sign", archive, "--key", key).refused(*FULL, archive)
    classkinfy("embed", bundle, "--android", folder / "app").refused(*FULL, "classkinfy.ckb")
    assert archive.read_bytes() == before
    assert not any(path.is_file() for path in (folder / "app").rglob("*"))
    remount(folder, "ro")
    classkinfy("sign", archive, "--key", key).refused(*LOCKED)
    classkinfy("embed", bundle, "--android", folder / "other").refused(*LOCKED)
    assert archive.read_bytes() == before


def test_photos_are_answered_where_nothing_can_be_written(
    bundle: Path, photo: Path, classkinfy: Classkinfy, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk(16384)
    shutil.copytree(bundle, folder / "bundle")
    remount(folder, "ro")
    with monkeypatch.context() as nowhere:
        nowhere.setattr(tempfile, "tempdir", str(folder))
        ran = classkinfy("predict", folder / "bundle", photo)
    assert ran.exit_code == 0
    assert DISCLAIMER in ran.stdout


def allocate_bytes() -> object:
    return bytearray(1 << 62)


def allocate_tensor() -> object:
    return torch.empty(1 << 50)


@pytest.mark.parametrize("allocate", [allocate_bytes, allocate_tensor])
def test_memory_that_runs_out_is_one_line(
    allocate: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(terminal, "_fail", told.append)
    app = typer.Typer(cls=terminal.Group)
    app.callback()(lambda: None)
    app.command("work")(lambda: allocate() and None)
    assert CliRunner().invoke(app, ["work"], catch_exceptions=False).exit_code == 2
    (line,) = told
    assert line.startswith("memory ran out")


def test_a_runtime_without_memory_is_one_line(trunk_bundle: Path, photo: Path) -> None:
    told = []
    # Each thread of a product of matrices would reserve memory of its own.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    for mb in (150, 200, 230, 260, 2000):
        bound = ["sh", "-c", f'ulimit -v {mb * 1000} && exec "$@"', "sh"]
        command = [*bound, COMMAND, "predict", trunk_bundle, photo]
        ran = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
        if ran.returncode:
            assert ran.returncode == 2
            assert ran.stderr.splitlines()[-1].startswith("error: "), ran.stderr
            assert "Traceback" not in ran.stderr
        told.append(ran.returncode)
    assert told[0] == 2
    assert told[-1] == 0
