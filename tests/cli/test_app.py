"""``classkinfy`` itself: help, version, doctor and progress."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from classkinfy_export import __version__
from classkinfy_export.cli import terminal
from classkinfy_export.taxonomy import DISCLAIMER

COMMAND = Path(sys.executable).with_name("classkinfy")
ONNX = ("--runtimes", "onnxruntime")

Classkinfy = Callable[..., Any]


def test_doctor_names_every_package_and_how_to_get_it(classkinfy: Classkinfy) -> None:
    ran = classkinfy("doctor", "--json")
    assert ran.exit_code == 0
    pieces = {piece["package"]: piece for piece in json.loads(ran.stdout)}
    assert pieces["torch"]["version"]
    assert pieces["torch"]["hint"] == "pip install 'classkinfy-export[export]'"
    assert pieces["onnxruntime"]["hint"] == "pip install 'classkinfy-export'"
    assert {"arm64", "onnxruntime-web", "@litertjs/core"} <= pieces.keys()
    assert "torch" in classkinfy("doctor").stdout


def test_doctor_shows_the_extra_of_what_is_missing(
    classkinfy: Classkinfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.cli import doctor

    gone = [dataclasses.replace(piece, version=None) for piece in doctor.examine()]
    monkeypatch.setattr(doctor, "examine", lambda: gone)
    words = classkinfy("doctor").stdout.replace("│", " ").split()
    assert "'classkinfy-export[litert]'" in words


def test_help_names_every_verb_and_the_disclaimer(classkinfy: Classkinfy) -> None:
    ran = classkinfy("--help")
    assert ran.exit_code == 0
    text = " ".join(ran.stdout.split())
    assert DISCLAIMER in text
    for verb in (
        *("doctor", "demo", "data", "train", "export", "inspect"),
        *("evaluate", "verify", "localise", "bench", "predict", "explain", "report"),
    ):
        assert f" {verb} " in text


def test_the_list_of_fonts_that_matplotlib_made_before_is_used_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], check=True)
    made = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ((path, fonts),) = made.items()
    seen: dict[str, bytes] = {}

    def look() -> None:
        folder = Path(os.environ["MPLCONFIGDIR"])
        assert folder not in path.parents
        seen.update({one.name: one.read_bytes() for one in folder.iterdir()})

    app = typer.Typer(cls=terminal.Group)
    app.callback()(lambda: None)
    app.command("work")(look)
    assert CliRunner().invoke(app, ["work"], catch_exceptions=False).exit_code == 0
    assert seen == {path.name: fonts}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == made


def test_a_user_without_a_home_is_answered(
    classkinfy: Classkinfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    classkinfy("inspect", tmp_path).refused("has no manifest.json")


def test_version_is_the_packages(classkinfy: Classkinfy) -> None:
    ran = classkinfy("--version")
    assert ran.exit_code == 0
    assert ran.stdout == f"classkinfy-export {__version__}\n"


def test_progress_is_on_stderr_so_that_json_can_be_piped(bundle: Path) -> None:
    verify_it = [COMMAND, "verify", bundle, *ONNX, "--json"]
    ran = subprocess.run(verify_it, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)["passed"] is True
    assert ran.stderr == "verifying (1/7)\n"
