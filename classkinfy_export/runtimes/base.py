"""What a runtime does: say whether it is installed, and open a bundle as an engine.

An engine runs a stage on named tensors. ``Engine.run`` checks what goes in against the stage's
spec and is the same for every runtime; ``_run`` is what a runtime implements.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName, StageSpec
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.precision import Precision

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]


class Engine(ABC):
    """A bundle opened in one runtime, format and precision.

    Model files are opened when a stage in them first runs, so a grader that is never routed to
    costs nothing.

    Args:
        bundle: an opened bundle.
        format: the format this runtime reads.
        precision: which of the bundle's precisions to run.
        threads: threads within an operator.
    """

    concurrent: ClassVar[bool] = False
    """Whether several threads may run stages at once, of files that are open."""

    def __init__(
        self, bundle: Bundle, format: FormatName, precision: Precision, threads: int
    ) -> None:
        self.bundle = bundle
        self.format: FormatName = format
        self.precision: Precision = precision
        self.threads = threads

    def has(self, stage: str) -> bool:
        """Whether the bundle holds a stage in this engine's format and precision."""
        return self.bundle.manifest.find_model(stage, self.format, self.precision) is not None

    def load(self, stage: str) -> None:
        """Open the file that holds a stage, if it is not open. Raises BundleError if none does."""
        self._load(self._model(stage), stage)

    def run(self, stage: str, tensors: Tensors) -> dict[str, Array]:
        """Run one stage.

        Args:
            stage: its name.
            tensors: at least the stage's inputs, by name; others are ignored.

        Returns:
            the stage's outputs, by name.

        Raises:
            BundleError: the bundle lacks the stage, or an input is missing or of another shape
                or dtype than the contract's.
        """
        spec = self.bundle.manifest.stage(stage)
        inputs = {}
        for wanted in spec.inputs:
            given = tensors.get(wanted.name)
            if given is None:
                raise BundleError(f"stage {stage} needs {wanted.name!r}, which was not given")
            if given.shape != wanted.shape or given.dtype != np.dtype(wanted.dtype):
                raise BundleError(
                    f"stage {stage}: {wanted.name} is {given.dtype} {list(given.shape)}, "
                    f"the contract says {wanted.dtype} {list(wanted.shape)}",
                    hint="frame the photo first (classkinfy_export.frame)",
                )
            inputs[wanted.name] = np.require(given, requirements=("C", "W"))
        return self._run(self._model(stage), spec, inputs)

    @abstractmethod
    def opened(self) -> list[str]:
        """Return the paths of the model files that are open, in the order they were opened."""

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; running a stage afterwards opens it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _model(self, stage: str) -> ModelFile:
        model = self.bundle.manifest.find_model(stage, self.format, self.precision)
        if model is None:
            held = sorted({(m.format, m.precision) for m in self.bundle.manifest.models})
            raise BundleError(
                f"the bundle has no {stage} in {self.format} {self.precision}",
                hint="it holds " + ", ".join(" ".join(pair) for pair in held),
            )
        return model

    @abstractmethod
    def _load(self, model: ModelFile, stage: str) -> None:
        """Open a model file once."""

    @abstractmethod
    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run a stage on checked inputs."""


class Runtime(ABC):
    """A way to run bundles. Subclasses name themselves, their format and their package."""

    name: ClassVar[str]
    format: ClassVar[FormatName]
    package: ClassVar[str]
    """The distribution that must be installed."""
    module: ClassVar[str]
    extra: ClassVar[str]
    """The extra of this package that installs it, empty for the core."""
    on_request: ClassVar[bool] = False
    """Whether it runs only when it is named, for it is slow."""
    scripted: ClassVar[bool] = True
    """Whether a Python script by itself can run a model in it, as ``localise`` writes one."""
    in_process: ClassVar[bool] = True
    """Whether its time and memory are this process's."""

    def version(self) -> str | None:
        """Return the installed version, None when the runtime is not installed."""
        if importlib.util.find_spec(self.module) is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            # Another distribution of the same module, such as onnxruntime-gpu.
            others = importlib.metadata.packages_distributions().get(self.module, ())
            return ", ".join(f"{o} {importlib.metadata.version(o)}" for o in others) or "unknown"

    def missing(self) -> str:
        """Return what is not installed, where ``version`` says so."""
        return self.package

    def hint(self) -> str:
        """Return how to install it."""
        return f"pip install 'classkinfy-export{f'[{self.extra}]' if self.extra else ''}'"

    def caveat(self, precision: Precision) -> str | None:
        """Return what is to be known of a precision on this machine, None when nothing is."""
        return None

    def open(self, bundle: Bundle, *, precision: Precision = "fp32", threads: int = 1) -> Engine:
        """Open a bundle.

        Raises:
            MissingDependencyError: the runtime is not installed.
            BundleError: the bundle holds nothing in this format and precision.
        """
        self.require()
        models = bundle.manifest.models
        if not any(m.format == self.format and m.precision == precision for m in models):
            held = sorted({f"{m.format} {m.precision}" for m in models})
            raise BundleError(
                f"the bundle holds no {self.format} {precision}, which {self.name} is to run",
                hint=f"it holds {', '.join(held)}: pass --precision, or export with another recipe",
            )
        return self._open(bundle, precision, threads)

    def require(self) -> None:
        """Raise MissingDependencyError where it is not installed."""
        if self.version() is None:
            raise MissingDependencyError(
                f"runtime {self.name} needs {self.missing()}, which is not installed",
                hint=self.hint(),
            )

    @abstractmethod
    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        """Open a bundle that is known to hold this format."""
