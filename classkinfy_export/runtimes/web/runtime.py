"""ONNX Runtime and LiteRT as a page runs them: WebAssembly, in Node and in headless Chromium.

``jobs.web`` installs the npm packages; Node and Chromium are the system's. On one thread, whatever
is asked, for a WebView never gets more. An image takes a part of a second, so no default of
``verify``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.runtimes.installation import Installation
from classkinfy_export.runtimes.process import ProcessEngine

INSTALLATION = Installation("web", "set of npm packages")
HERE = Path(__file__).parent
"""Of the program that runs models, and of the packages' versions."""
NODE = 20
"""The oldest that playwright-core runs on."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRIVER = "playwright-core"


def node() -> tuple[str, str] | None:
    """Return Node's path and version; None without one, or of one that is too old."""
    found = _find("node")
    return found if found is not None and int(found[1].split(".")[0]) >= NODE else None


def chromium() -> tuple[str, str] | None:
    """Return Chromium's path and version, None without one."""
    return next((found for name in _BROWSERS if (found := _find(name)) is not None), None)


def _find(name: str) -> tuple[str, str] | None:
    path = shutil.which(name)
    version = None if path is None else _version(path)
    return None if path is None or version is None else (path, version)


@lru_cache
def _version(path: str) -> str | None:
    try:
        ran = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # Ubuntu's chromium-browser only says what to install.
    told = re.search(r"\d+(\.\d+)+", ran.stdout) if ran.returncode == 0 else None
    return None if told is None else told[0]


class WebRuntime(Runtime):
    """An npm package in Node or in Chromium."""

    library: ClassVar[str]
    """The module beside this one that opens its models."""
    in_browser: ClassVar[bool] = True
    on_request: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    in_process: ClassVar[bool] = False
    module: ClassVar[str] = ""
    extra: ClassVar[str] = ""

    def version(self) -> str | None:
        """Return the package's version and what it runs in, None where one is missing."""
        if self._lacks() is not None:
            return None
        where = ("Chromium", chromium()) if self.in_browser else ("Node", node())
        assert where[1] is not None
        return f"{INSTALLATION.versions()[self.package]} in {where[0]} {where[1][1]}"

    def missing(self) -> str:
        """Return the first thing that is missing."""
        return (self._lacks() or (self.package, ""))[0]

    def hint(self) -> str:
        """Return how to install that."""
        return (self._lacks() or ("", INSTALLATION.hint))[1]

    def _lacks(self) -> tuple[str, str] | None:
        if node() is None:
            return f"Node {NODE}", f"install Node {NODE} or newer, then {INSTALLATION.hint}"
        folder, versions = INSTALLATION.folder(), INSTALLATION.versions()
        for package in (self.package, _DRIVER) if self.in_browser else (self.package,):
            if package not in versions or not (folder / "node_modules" / package).is_dir():
                return package, INSTALLATION.hint
        if self.in_browser and chromium() is None:
            return "Chromium", "apt-get install chromium"
        return None

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        programs = (node(), chromium()) if self.in_browser else (node(),)
        started, *browser = (found[0] for found in programs if found is not None)
        # Answers take the standard output, and what libraries print takes the way of errors.
        apart = ("sh", "-c", 'exec "$@" 3>&1 1>&2', "sh")
        folder = str(INSTALLATION.folder())
        worker = (started, str(HERE / "worker.mjs"), self.library, folder, *browser)
        return ProcessEngine(
            bundle, self.format, precision, threads=1, kind=self.name, command=(*apart, *worker)
        )


class WebOnnxRuntime(WebRuntime):
    """``onnxruntime-web`` in Chromium."""

    name: ClassVar[str] = "web-onnxruntime"
    format: ClassVar[FormatName] = "onnx"
    package: ClassVar[str] = "onnxruntime-web"
    library: ClassVar[str] = "onnxruntime"


class WebOnnxNodeRuntime(WebOnnxRuntime):
    """``onnxruntime-web`` in Node."""

    name: ClassVar[str] = "web-onnxruntime-node"
    in_browser: ClassVar[bool] = False


class WebLitertRuntime(WebRuntime):
    """``@litertjs/core`` in Chromium."""

    name: ClassVar[str] = "web-litert"
    format: ClassVar[FormatName] = "litert"
    package: ClassVar[str] = "@litertjs/core"
    library: ClassVar[str] = "litert"
