"""ONNX Runtime and LiteRT as a phone runs them: ARM64 kernels, emulated by QEMU's user mode.

A folder holds the emulator, an ARM64 Python from Debian and the runtimes' own wheels; nothing is
installed in the system. ``jobs.arm64`` makes it. Slow, so no default of ``verify``: an image takes
seconds.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName
from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.runtimes.installation import Installation
from classkinfy_export.runtimes.process import ProcessEngine, python_worker

Cpu = Literal["cortex-a76", "cortex-a53"]
CPUS: tuple[Cpu, ...] = ("cortex-a76", "cortex-a53")
"""A large core of 2018 with dot product, and a small one of 2012 without."""
PYTHON = "3.11"
"""Of Debian 12."""
EMULATOR, LIBRARIES, COUNTER = "qemu-aarch64", "lib", "instructions.so"
"""In ``host``: the emulator, its libraries, and the plugin that counts instructions."""
INSTALLATION = Installation("arm64", "emulated machine")


def command(cpu: Cpu, *, counted: bool = False) -> tuple[str, ...]:
    """Return how to start its Python, and whether the emulator is to count instructions."""
    base = INSTALLATION.folder()
    root, host = base / cpu, base / "host"
    variables = {
        "PYTHONHOME": root / "usr",
        "PYTHONPATH": base / "site",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    return (
        *("env", f"LD_LIBRARY_PATH={host / LIBRARIES}", str(host / EMULATOR)),
        *(("-plugin", str(host / COUNTER)) if counted else ()),
        *("-cpu", cpu, "-L", str(root), "-U", "LD_LIBRARY_PATH"),
        *(part for name, value in variables.items() for part in ("-E", f"{name}={value}")),
        str(root / "usr" / "bin" / f"python{PYTHON}"),
    )


class Arm64Runtime(Runtime):
    """A runtime in the emulated machine."""

    cpu: ClassVar[Cpu] = "cortex-a76"
    kind: ClassVar[str]
    on_request: ClassVar[bool] = True
    in_process: ClassVar[bool] = False
    module: ClassVar[str] = ""
    extra: ClassVar[str] = ""

    def version(self) -> str | None:
        """Return the version in the emulated machine, None without one."""
        versions = INSTALLATION.versions()
        found = versions.get(self.package)
        return None if found is None else f"{found} on QEMU {versions.get('qemu', '')}".rstrip()

    def hint(self) -> str:
        """Return how to install it."""
        return INSTALLATION.hint

    def counts(self) -> bool:
        """Whether it is set up, with the counter."""
        counter = INSTALLATION.folder() / "host" / COUNTER
        return self.version() is not None and counter.is_file()

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        return self._engine(bundle, precision, threads, counted=False)

    def counting(self, bundle: Bundle, precision: Precision = "fp32") -> ProcessEngine:
        """Open a bundle, on one thread, in a process that counts instructions.

        Raises:
            MissingDependencyError: the emulated machine is not set up, or without the counter.
            BundleError: the bundle holds nothing in this format and precision.
        """
        self.open(bundle, precision=precision).close()  # or says what is missing
        if not self.counts():
            raise MissingDependencyError(
                "the emulated machine was set up without a C compiler, which its counter needs",
                hint=f"install gcc, then {self.hint()}",
            )
        return self._engine(bundle, precision, 1, counted=True)

    def _engine(
        self, bundle: Bundle, precision: Precision, threads: int, *, counted: bool
    ) -> ProcessEngine:
        return ProcessEngine(
            bundle,
            self.format,
            precision,
            threads,
            kind=self.kind,
            command=python_worker(self.kind, threads, command(self.cpu, counted=counted)),
            counted=counted,
        )


class Arm64OnnxRuntime(Arm64Runtime):
    """``onnxruntime`` on a Cortex-A76."""

    name: ClassVar[str] = "arm64-onnxruntime"
    format: ClassVar[FormatName] = "onnx"
    package: ClassVar[str] = "onnxruntime"
    kind: ClassVar[str] = "onnxruntime"


class Arm64LitertRuntime(Arm64Runtime):
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
