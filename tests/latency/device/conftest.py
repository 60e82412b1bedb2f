"""A phone that a fake ``adb`` plays, a clock, a bundle in both formats, and a seeming tool."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_phone import ARM64, FAKE_ADB, Phone
from tiny_bundle import SIZE, TAXONOMY, make_bundle

from classkinfy_export import contract
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import Manifest, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.latency.device import app, throttling


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """A phone that ``adb`` on PATH reaches, and nothing else is there."""
    home, programs = tmp_path / "phone", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    start = programs / "adb"
    start.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{FAKE_ADB}" "$@"\n')
    start.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("FAKE_PHONE", str(home))
    return Phone(home)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only sleeping moves."""
    made = SimpleNamespace(now=0.0)
    made.monotonic = lambda: made.now

    def sleep(seconds: float) -> None:
        made.now += seconds
        assert made.now < 3600, "it waits for ever"

    made.sleep = sleep
    monkeypatch.setattr(throttling, "time", made)
    monkeypatch.setattr(app, "time", made)
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """In both formats: prepare, classify and two graders, of which nv's files are larger."""
    folder = tmp_path / "bundle"
    manifest = make_bundle(folder).manifest
    added = {
        "models/grade_nv.onnx": ("onnx", {"grade_nv": "grade_nv"}, b"o" * 4000),
        "models/stages.tflite": ("litert", {"prepare": "prepare", "classify": "classify"}, b"s"),
        "models/grade_mel.tflite": ("litert", {"grade_mel": "grade_mel"}, b"m" * 10),
        "models/grade_nv.tflite": ("litert", {"grade_nv": "grade_nv"}, b"n" * 5000),
    }
    models = [*manifest.models]
    for path, (form, entries, data) in added.items():
        (folder / path).write_bytes(data)
        models.append(
            ModelFile.model_validate(
                {"path": path, "format": form, "precision": "fp32", "entries": entries}
            )
        )
    writer.seal(
        folder,
        Manifest.model_validate(
            {
                **dict(manifest),
                "stages": (*manifest.stages, contract.grade_spec(SIZE, TAXONOMY, "nv", None)),
                "models": tuple(models),
                "files": writer.pin(folder),
            }
        ),
    )
    return Bundle.open(folder)


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., Path]:
    """Make a file that looks like a program for a machine."""

    def make(name: str, machine: tuple[int, int] = ARM64) -> Path:
        path = tmp_path / name
        kind, number = machine
        head = b"\x7fELF" + bytes([kind, 1, 1]) + bytes(9) + b"\x03\x00"
        path.write_bytes(head + number.to_bytes(2, "little") + bytes(44))
        return path

    return make
