"""SIGKILL, which no program hears: ``benchmarks/kills.py`` has many more of them, of every job."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle

COMMAND = Path(sys.executable).with_name("classkinfy")
GIVE_UP_S = 90


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is killed leaves a folder for caches.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


Seeds = pytest.mark.parametrize("seed", range(3))


def kill(command: list[Any], begun: Callable[[], bool], within_s: float, seed: int) -> None:
    """Start a command, and kill it at a random moment after it has begun to write."""
    process = subprocess.Popen(
        [COMMAND, *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + GIVE_UP_S
    while not begun() and process.poll() is None:
        assert time.monotonic() < until
    time.sleep(random.Random(seed).uniform(0.0, within_s))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL)


@Seeds
def test_a_bundle_is_signed_or_as_it_was(seed: int, trunk_bundle: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    subprocess.run([COMMAND, "keygen", key], check=True, capture_output=True)
    folder = tmp_path / "signed"
    folder.mkdir()
    archive = folder / "bundle.ckb"
    writer.pack(trunk_bundle, archive)
    before = Bundle.open(archive).sha256
    kill(["sign", archive, "--key", key], lambda: len([*folder.iterdir()]) > 1, 0.05, seed)
    assert Bundle.open(archive).sha256 == before, "every hash is checked"


@Seeds
@pytest.mark.parametrize("there", [False, True], ids=["none", "an old one"])
def test_an_app_gets_a_whole_bundle_or_none(
    seed: int, there: bool, trunk_bundle: Path, tmp_path: Path
) -> None:
    new = shutil.copytree(trunk_bundle, tmp_path / "new")
    assets = tmp_path / "app" / "src" / "main" / "assets"
    assets.mkdir(parents=True)
    asset = assets / "classkinfy.ckb"
    if there:
        writer.pack(trunk_bundle, asset)
    command = ["embed", new, "--android", tmp_path / "app"]
    kill(command, lambda: len([*assets.iterdir()]) > there, 0.05, seed)
    if there or asset.exists():
        assert Bundle.open(asset).sha256 == Bundle.open(trunk_bundle).sha256
