"""ONNX Runtime and LiteRT as a phone runs them: ARM64 kernels, emulated by QEMU's user mode.

A folder holds the emulator, an ARM64 Python from Debian and the runtimes' own wheels; nothing is
installed in the system. ``jobs.arm64`` makes it. Slow, so no default of ``verify``: an image takes
seconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar, Literal

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.recipes import FormatName, Precision
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.runtimes.process import ProcessEngine

Cpu = Literal["cortex-a76", "cortex-a53"]
CPUS: tuple[Cpu, ...] = ("cortex-a76", "cortex-a53")
"""A large core of 2018 with dot product, and a small one of 2012 without."""
PYTHON = "3.11"
"""Of Debian 12."""
EMULATOR = "qemu-aarch64-static"
INSTALLED = "installed.json"
"""Written last: packages' versions."""


def folder() -> Path:
    """Return where the emulated machine is: ``CLASSKINFY_ARM64``, or in the user's cache."""
    given = os.environ.get("CLASSKINFY_ARM64")
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "classkinfy" / "arm64"


def command(cpu: Cpu) -> tuple[str, ...]:
    """Return how to start its Python."""
    base = folder()
    root = base / cpu
    variables = {
        "PYTHONHOME": root / "usr",
        "PYTHONPATH": base / "site",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    return (
        str(base / "host" / EMULATOR),
        *("-cpu", cpu, "-L", str(root)),
        *(part for name, value in variables.items() for part in ("-E", f"{name}={value}")),
        str(root / "usr" / "bin" / f"python{PYTHON}"),
    )


class _Arm64Runtime(Runtime):
    cpu: ClassVar[Cpu] = "cortex-a76"
    kind: ClassVar[str]
    on_request: ClassVar[bool] = True
    module: ClassVar[str] = ""
    extra: ClassVar[str] = ""

    def version(self) -> str | None:
        """Return the version in the emulated machine, None without one."""
        path = folder() / INSTALLED
        if not path.is_file():
            return None
        versions: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return versions.get(self.package)

    def hint(self) -> str:
        """Return how to install it."""
        return "classkinfy doctor --install arm64"

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        return ProcessEngine(
            bundle, self.format, precision, threads, kind=self.kind, python=command(self.cpu)
        )


class Arm64OnnxRuntime(_Arm64Runtime):
    """``onnxruntime`` on a Cortex-A76."""

    name: ClassVar[str] = "arm64-onnxruntime"
    format: ClassVar[FormatName] = "onnx"
    package: ClassVar[str] = "onnxruntime"
    kind: ClassVar[str] = "onnxruntime"


class Arm64LitertRuntime(_Arm64Runtime):
    """``ai-edge-litert`` on a Cortex-A76."""

    name: ClassVar[str] = "arm64-litert"
    format: ClassVar[FormatName] = "litert"
    package: ClassVar[str] = "ai-edge-litert"
    kind: ClassVar[str] = "litert"


class Arm64A53OnnxRuntime(Arm64OnnxRuntime):
    """``onnxruntime`` on a Cortex-A53."""

    name: ClassVar[str] = "arm64-a53-onnxruntime"
    cpu: ClassVar[Cpu] = "cortex-a53"


class Arm64A53LitertRuntime(Arm64LitertRuntime):
    """``ai-edge-litert`` on a Cortex-A53."""

    name: ClassVar[str] = "arm64-a53-litert"
    cpu: ClassVar[Cpu] = "cortex-a53"
