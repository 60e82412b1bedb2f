"""LiteRT's C API, as much of it as a profile needs: the Python package wraps no profiler.

Signatures and constants are those of ``litert/c/*.h`` of version 2.3, in ``libLiteRt.so``, which
``ai-edge-litert`` brings since 2.1. With a profiler attached, XNNPACK times each of its kernels.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from ctypes import CFUNCTYPE, Structure, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from classkinfy_export.errors import BundleError, ClasskinfyError, MissingDependencyError
from classkinfy_export.runtimes.base import Array

_CPU = 1
_READ, _WRITE = 0, 1
_RANKED_TENSOR_TYPE_BYTES = 128
"""More than a ``LiteRtRankedTensorType`` has, which is only handed on."""
_KNOWN = "2.3."
_MOST_EVENTS = 2048
"""What a compiled model's profiler keeps; later events are dropped."""


class EventKind(IntEnum):
    """What an event is of: of TensorFlow Lite's ``Profiler::EventType``, what operators have."""

    OPERATOR = 2
    """An operator in LiteRT's own kernel; its place is that in the file."""
    DELEGATED = 8
    """A kernel of XNNPACK; its place is that in the part that it took."""


class Event(NamedTuple):
    """One operator's time."""

    kind: EventKind
    name: str
    place: int
    us: int


class _Event(Structure):
    _fields_ = (
        ("tag", c_char_p),
        ("type", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory", c_uint64 * 6),
        ("index", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    )


class _Signature(NamedTuple):
    place: int
    inputs: dict[str, int]
    """Tensor buffers by name, as are the outputs."""
    outputs: dict[str, int]


# The options' text is Python's, which frees it.
_KEEP = CFUNCTYPE(None, c_void_p)(lambda _: None)


class CompiledModel:
    """A model on the CPU, with XNNPACK and a profiler.

    Args:
        data: a LiteRT file.
        threads: within an operator.

    Raises:
        MissingDependencyError: the installed package has no such library.
        BundleError: LiteRT cannot load the file.
    """

    def __init__(self, data: bytes, threads: int) -> None:
        self._library = _open()
        # LiteRT reads from these as long as there is a model.
        self._data = ctypes.create_string_buffer(data, len(data))
        self._texts: list[Any] = []
        self._environment, self._model = c_void_p(), c_void_p()
        self._compiled, self._profiler = c_void_p(), c_void_p()
        try:
            self._load(len(data), threads)
        except ClasskinfyError as error:
            raise BundleError(f"LiteRT cannot load the file: {error}") from error
        self._signatures = self._read_signatures()

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, bytes]:
        """Run a signature.

        Args:
            entry: its name.
            inputs: contiguous, by name.

        Returns:
            the outputs' bytes, by name.
        """
        signature = self._signatures[entry]
        for name, buffer in signature.inputs.items():
            self._copy(buffer, inputs[name])
        given = (c_void_p * len(signature.inputs))(*signature.inputs.values())
        made = (c_void_p * len(signature.outputs))(*signature.outputs.values())
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            c_size_t(signature.place),
            c_size_t(len(given)),
            given,
            c_size_t(len(made)),
            made,
        )
        return {name: self._bytes(buffer) for name, buffer in signature.outputs.items()}

    def start(self) -> None:
        """Forget earlier events, and keep those from now on."""
        self._call("LiteRtStartProfiler", self._profiler)

    def stop(self) -> list[Event]:
        """Return the operators' events since ``start``, in running order.

        Raises:
            ClasskinfyError: there were more than it keeps.
        """
        self._call("LiteRtStopProfiler", self._profiler)
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        if count.value >= _MOST_EVENTS:
            raise ClasskinfyError(
                f"LiteRT's profiler keeps {_MOST_EVENTS} events, and a run of this model has more",
                hint="export it staged, with forms=[staged]",
            )
        events = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        kinds = {int(kind) for kind in EventKind}
        return [
            Event(EventKind(e.type), e.tag.decode(), int(e.index), int(e.elapsed_us))
            for e in events
            if e.type in kinds
        ]

    def close(self) -> None:
        """Free everything."""
        for signature in self._signatures.values():
            for buffer in (*signature.inputs.values(), *signature.outputs.values()):
                self._library.LiteRtDestroyTensorBuffer(c_void_p(buffer))
        self._signatures.clear()
        self._library.LiteRtDestroyCompiledModel(self._compiled)
        self._library.LiteRtDestroyModel(self._model)
        self._library.LiteRtDestroyEnvironment(self._environment)

    def _load(self, size: int, threads: int) -> None:
        self._call("LiteRtCreateEnvironment", 0, None, byref(self._environment))
        self._call(
            "LiteRtCreateModelFromBuffer",
            self._environment,
            self._data,
            c_size_t(size),
            byref(self._model),
        )
        options = c_void_p()
        self._call("LiteRtCreateOptions", byref(options))
        self._call("LiteRtSetOptionsHardwareAccelerators", options, c_uint64(_CPU))
        for kind, text in (
            (b"runtime_options_string", b"enable_profiling = true\n"),
            (b"xnnpack", b"num_threads = %d\n" % threads),
        ):
            self._texts.append(ctypes.create_string_buffer(text))
            opaque = c_void_p()
            self._call("LiteRtCreateOpaqueOptions", kind, self._texts[-1], _KEEP, byref(opaque))
            self._call("LiteRtAddOpaqueOptions", options, opaque)
        self._call(
            "LiteRtCreateCompiledModel",
            self._environment,
            self._model,
            options,
            byref(self._compiled),
        )
        self._library.LiteRtDestroyOptions(options)
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, byref(self._profiler))

    def _read_signatures(self) -> dict[str, _Signature]:
        count = c_size_t()
        self._call("LiteRtGetNumModelSignatures", self._model, byref(count))
        found = {}
        for index in range(count.value):
            signature, key = c_void_p(), c_char_p()
            self._call("LiteRtGetModelSignature", self._model, c_size_t(index), byref(signature))
            self._call("LiteRtGetSignatureKey", signature, byref(key))
            sides = (self._buffers(signature, index, side) for side in ("Input", "Output"))
            found[(key.value or b"").decode()] = _Signature(index, *sides)
        return found

    def _buffers(self, signature: c_void_p, index: int, side: str) -> dict[str, int]:
        """Make the buffers of a signature's inputs or outputs, by name."""
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        found = {}
        for place in map(c_size_t, range(count.value)):
            name, tensor, needs, buffer = c_char_p(), c_void_p(), c_void_p(), c_void_p()
            kind = ctypes.create_string_buffer(_RANKED_TENSOR_TYPE_BYTES)
            self._call(f"LiteRtGetSignature{side}Name", signature, place, byref(name))
            self._call(f"LiteRtGetSignature{side}TensorByIndex", signature, place, byref(tensor))
            self._call("LiteRtGetRankedTensorType", tensor, kind)
            self._call(
                f"LiteRtGetCompiledModel{side}BufferRequirements",
                self._compiled,
                c_size_t(index),
                place,
                byref(needs),
            )
            self._call(
                "LiteRtCreateManagedTensorBufferFromRequirements",
                self._environment,
                kind,
                needs,
                byref(buffer),
            )
            found[(name.value or b"").decode()] = int(buffer.value or 0)
        return found

    def _copy(self, buffer: int, values: Array) -> None:
        address = self._lock(buffer, _WRITE)
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self._call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def _bytes(self, buffer: int) -> bytes:
        size = c_size_t()
        self._call("LiteRtGetTensorBufferPackedSize", c_void_p(buffer), byref(size))
        data = ctypes.string_at(self._lock(buffer, _READ), size.value)
        self._call("LiteRtUnlockTensorBuffer", c_void_p(buffer))
        return data

    def _lock(self, buffer: int, mode: int) -> c_void_p:
        address = c_void_p()
        self._call("LiteRtLockTensorBuffer", c_void_p(buffer), byref(address), mode)
        return address

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise ClasskinfyError(f"LiteRT's {name} failed with status {status}")


def _open() -> ctypes.CDLL:
    # What the library fills is laid out as in this release; another may write past it.
    found = importlib.metadata.version("ai-edge-litert")
    if not found.startswith(_KNOWN):
        raise MissingDependencyError(
            f"LiteRT's profiler is known in ai-edge-litert {_KNOWN}*, and {found} is installed",
            hint=f"pip install 'ai-edge-litert=={_KNOWN}*', or profile ONNX Runtime alone",
        )
    package = importlib.util.find_spec("ai_edge_litert")
    folders = [] if package is None else package.submodule_search_locations or []
    for folder in folders:
        for path in Path(folder).glob("libLiteRt.*"):
            return ctypes.CDLL(str(path))
    raise MissingDependencyError(
        "profiling LiteRT needs libLiteRt, which the installed ai-edge-litert does not bring",
        hint=f"pip install 'ai-edge-litert=={_KNOWN}*'",
    )
