"""Disks of their own size, mounted in memory."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Disk = Callable[[int], Path]
"""Mounts one of so many KiB."""


def mount(folder: Path, kib: int) -> Path:
    """Mount a disk over a folder; the test is skipped where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no disk of its own size may be mounted here: that takes root")
    return folder


def remount(folder: Path, option: str) -> None:
    """Change a disk: ``ro``, ``rw``, ``size=16m``."""
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def fill(disk: Path, leave_kib: int) -> None:
    """Leave so much place."""
    free = shutil.disk_usage(disk).free
    (disk / "other").write_bytes(bytes(free - leave_kib * 1024))
