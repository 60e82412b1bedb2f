"""Sets up the web runtimes: npm packages in the versions that this package names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.jobs.program import run
from classkinfy_export.runtimes.web.runtime import HERE, INSTALLATION, NODE, node

Report = Callable[[str, int, int], None]

_PINNED = ("package.json", "package-lock.json")
"""The lock has the hash of every package that npm brings."""


def install(report: Report = lambda what, done, total: None) -> dict[str, str]:
    """Install the npm packages, anew where there are some. Node and Chromium are the system's.

    Args:
        report: told of progress.

    Returns:
        the packages' versions.

    Raises:
        MissingDependencyError: there is no Node or no npm, a package is not to be had, or the
            folder holds something else.
    """
    npm = shutil.which("npm")
    if node() is None or npm is None:
        raise MissingDependencyError(
            f"the web runtimes need Node {NODE} and its npm, which are not here",
            hint=f"install Node {NODE} or newer",
        )
    with INSTALLATION.renewed() as (made, versions):
        report("npm packages", 0, 1)
        for name in _PINNED:
            shutil.copyfile(HERE / name, made / name)
        # No package runs a program of its own here: none downloads a browser.
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], made)
        named = json.loads((made / "package.json").read_text(encoding="utf-8"))
        versions |= named["dependencies"]
    report("done", 1, 1)
    return versions
