"""LiteRT by signature, with its XNNPACK delegate and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName, StageSpec
from classkinfy_export.errors import BundleError
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.runtimes.base import Array, Engine, Runtime

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

_ROUNDS_TWICE = (
    "LiteRT's own int8 kernels round the sum of a convolution twice, XNNPACK's once: labels may "
    "differ where no delegate is at hand"
)


class LitertRuntime(Runtime):
    """``ai-edge-litert``, CPU, XNNPACK."""

    name: ClassVar[str] = "litert"
    format: ClassVar[FormatName] = "litert"
    package: ClassVar[str] = "ai-edge-litert"
    module: ClassVar[str] = "ai_edge_litert"
    extra: ClassVar[str] = "litert"
    delegated: ClassVar[bool] = True

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        return _LitertEngine(bundle, self.format, precision, threads, self.delegated)


class LitertReferenceRuntime(LitertRuntime):
    """The same without a delegate: LiteRT's own kernels, which a phone falls back to."""

    name: ClassVar[str] = "litert-reference"
    delegated: ClassVar[bool] = False

    def caveat(self, precision: Precision) -> str | None:
        """Return what is to be known of a precision here."""
        return _ROUNDS_TWICE if calibrated(precision) else None


@contextmanager
def _refused(model: ModelFile) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise BundleError(
            f"LiteRT cannot run {model.path}: {error}",
            hint="where memory ran out, close other programs",
        ) from error


class _LitertEngine(Engine):
    def __init__(
        self,
        bundle: Bundle,
        format: FormatName,
        precision: Precision,
        threads: int,
        delegated: bool,
    ) -> None:
        super().__init__(bundle, format, precision, threads)
        self.delegated = delegated
        self._interpreters: dict[str, Interpreter] = {}
        self._signatures: dict[tuple[str, str], Any] = {}

    def _load(self, model: ModelFile, stage: str) -> None:
        self._signature(model, model.entries[stage])

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        signature = self._signature(model, model.entries[spec.name])
        with _refused(model):
            outputs = signature(**inputs)
        return {tensor.name: outputs[tensor.name] for tensor in spec.outputs}

    def _signature(self, model: ModelFile, entry: str) -> Any:  # noqa: ANN401  (untyped upstream)
        key = (model.path, entry)
        if key not in self._signatures:
            if model.path not in self._interpreters:
                self._interpreters[model.path] = self._interpreter(model)
            with _refused(model):  # it takes the memory that the signature needs
                self._signatures[key] = self._interpreters[model.path].get_signature_runner(entry)
        return self._signatures[key]

    def _interpreter(self, model: ModelFile) -> Interpreter:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = OpResolverType.AUTO
        if not self.delegated:
            kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        data = self.bundle.read(model.path)
        try:
            return Interpreter(
                model_content=data,
                num_threads=self.threads,
                experimental_op_resolver_type=kernels,
            )
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"LiteRT cannot load {model.path}: {error}", hint="export it again"
            ) from error

    def opened(self) -> list[str]:
        """Return the open model files."""
        return list(self._interpreters)

    def close(self) -> None:
        """Free the interpreters."""
        self._signatures.clear()
        self._interpreters.clear()
