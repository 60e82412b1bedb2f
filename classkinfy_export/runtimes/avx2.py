"""ONNX Runtime on an x86 core with AVX2 and nothing newer, emulated by QEMU's user mode.

Without VNNI, x86 multiplies uint8 by int8 in pairs and adds each pair in 16 bits, where it
saturates (VPMADDUBSW): an int8 file whose weights use all 8 bits gives other answers there than on
a phone or a newer x86. This runtime shows it on any machine.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import ClassVar

from classkinfy_export import machine
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.runtimes.arm64 import INSTALLATION, LIBRARIES
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.runtimes.onnxruntime import SATURATES, OnnxRuntime
from classkinfy_export.runtimes.process import ProcessEngine, python_worker

EMULATOR = "qemu-x86_64"
"""In ``host`` of the folder that ``jobs.arm64`` makes."""
CPU = "Haswell"
"""Of 2013, the first with AVX2."""


class Avx2OnnxRuntime(Runtime):
    """``onnxruntime`` as it is installed here, on a Haswell core."""

    name: ClassVar[str] = "x86-avx2-onnxruntime"
    format: ClassVar[FormatName] = "onnx"
    package: ClassVar[str] = "onnxruntime"
    module: ClassVar[str] = "onnxruntime"
    extra: ClassVar[str] = ""
    on_request: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    in_process: ClassVar[bool] = False

    def version(self) -> str | None:
        """Return the version, None without an emulator or on another architecture."""
        if not machine.x86() or not (INSTALLATION.folder() / "host" / EMULATOR).is_file():
            return None
        found = OnnxRuntime().version()
        return None if found is None else f"{found} on QEMU"

    def hint(self) -> str:
        """Return how to install it."""
        return f"{INSTALLATION.hint}, on x86"

    def caveat(self, precision: Precision) -> str | None:
        """Return what is to be known of a precision here."""
        return SATURATES if calibrated(precision) else None

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        host = INSTALLATION.folder() / "host"
        paths = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
        # The interpreter itself: the emulator does not find a virtual environment's.
        python = (
            *("env", f"LD_LIBRARY_PATH={host / LIBRARIES}"),
            *(f"PYTHONPATH={':'.join(dict.fromkeys(paths))}", "ORT_DISABLE_TELEMETRY=1"),
            *(str(host / EMULATOR), "-cpu", CPU, "-U", "LD_LIBRARY_PATH"),
            str(Path(sys.executable).resolve()),
        )
        return ProcessEngine(
            bundle,
            self.format,
            precision,
            threads,
            kind=self.name,
            command=python_worker("onnxruntime", threads, python),
        )
