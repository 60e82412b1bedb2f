"""ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from classkinfy_export import machine
from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName, StageSpec
from classkinfy_export.errors import BundleError
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.runtimes.base import Array, Engine, Runtime

if TYPE_CHECKING:
    import onnxruntime

SATURATES = (
    "this x86 core has no VNNI and adds products of uint8 and int8 in 16 bits, which saturate: "
    "int8 answers differ from a phone's"
)


_KEY = re.compile(rb"(\x0a|\x8a\x80*\x00)(\x08|\x88\x80*\x00)$")


def open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Open a model on the CPU.

    Args:
        model: an ONNX file.
        threads: within an operator; operators run one after the other.

    Raises:
        BundleError: weights of it are in another file.
        Exception: ONNX Runtime's own, of several kinds that share no base class.
    """
    if _refers_outside(model):
        raise BundleError(
            "the ONNX file has weights in another file, which nothing pins",
            hint="export the bundle again: its files hold their weights",
        )
    import onnxruntime

    # Where a program imported it before this package, its reports are off from here on.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between runs would take the cores from the next stage's session.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _refers_outside(model: bytes) -> bool:
    """Whether a tensor's data is said to be elsewhere: ONNX Runtime would look in this folder.

    It is where ``external_data`` has a key ``location``: in protobuf's encoding, that of field 1
    and length 8, each of which may be padded, and then the word.
    """
    return any(_KEY.search(model, max(0, at - 20), at) for at in _places(model, b"location"))


def _places(data: bytes, word: bytes) -> Iterator[int]:
    at = data.find(word)
    while at >= 0:
        yield at
        at = data.find(word, at + 1)


class OnnxRuntime(Runtime):
    """``onnxruntime``, CPU execution provider."""

    name: ClassVar[str] = "onnxruntime"
    format: ClassVar[FormatName] = "onnx"
    package: ClassVar[str] = "onnxruntime"
    module: ClassVar[str] = "onnxruntime"
    extra: ClassVar[str] = ""

    def caveat(self, precision: Precision) -> str | None:
        """Return what is to be known of a precision here."""
        return SATURATES if calibrated(precision) and machine.vnni() is False else None

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        return _OnnxEngine(bundle, self.format, precision, threads)


class _OnnxEngine(Engine):
    concurrent: ClassVar[bool] = True

    def __init__(
        self, bundle: Bundle, format: FormatName, precision: Precision, threads: int
    ) -> None:
        super().__init__(bundle, format, precision, threads)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def _load(self, model: ModelFile, stage: str) -> None:
        self._session(model)

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        names = [tensor.name for tensor in spec.outputs]
        session = self._session(model)
        try:
            values = session.run(names, inputs)
        except Exception as error:  # its exceptions share no base class
            raise BundleError(
                f"ONNX Runtime cannot run {model.path}: {error}",
                hint="where memory ran out, close other programs",
            ) from error
        return dict(zip(names, values, strict=True))

    def _session(self, model: ModelFile) -> onnxruntime.InferenceSession:
        if model.path not in self._sessions:
            data = self.bundle.read(model.path)
            try:
                self._sessions[model.path] = open_session(data, self.threads)
            except BundleError as error:
                raise BundleError(f"{model.path}: {error.message}", hint=error.hint) from None
            except Exception as error:  # its exceptions share no base class
                raise BundleError(
                    f"ONNX Runtime cannot load {model.path}: {error}", hint="export it again"
                ) from error
        return self._sessions[model.path]

    def opened(self) -> list[str]:
        """Return the open model files."""
        return list(self._sessions)

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()
