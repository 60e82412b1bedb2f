"""Other programs, which say what went wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from classkinfy_export.errors import MissingDependencyError


def run(command: Sequence[str], where: Path, variables: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed.

    Args:
        command: its path and arguments.
        where: the folder to run it in.
        variables: of the environment, beside this one's.

    Raises:
        MissingDependencyError: it failed, with the last line that it printed.
    """
    ran = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise MissingDependencyError(
            f"{' '.join(command[:2])} failed with {ran.returncode}: {last[0]}"
        )
    return ran.stdout
