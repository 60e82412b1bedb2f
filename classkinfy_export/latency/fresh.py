"""A fresh process for what is measured: nothing that another opened or warmed is in it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from classkinfy_export.errors import ClasskinfyError


def run(module: str, arguments: Mapping[str, Any], what: str) -> str:
    """Run a module with JSON as its argument, and return the last line that it printed.

    Args:
        module: its dotted name.
        arguments: what it is given.
        what: what it does, for an error.

    Raises:
        ClasskinfyError: it failed: the signal that ended it, or the last line of its errors.
    """
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode == 0:
        return finished.stdout.splitlines()[-1]
    said = finished.stderr.strip().splitlines() or [f"exit {finished.returncode}"]
    if finished.returncode < 0:
        name = signal.Signals(-finished.returncode).name
        said = [f"{name} ended it{'; memory may be short' if name == 'SIGKILL' else ''}"]
    raise ClasskinfyError(f"{what} failed: {said[-1]}")
