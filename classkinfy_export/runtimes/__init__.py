"""Runtimes that run a bundle: one file each, behind one Protocol."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from classkinfy_export.contract import FormatName
from classkinfy_export.errors import BundleError
from classkinfy_export.runtimes.base import Engine, Runtime

__all__ = ["NAMES", "Engine", "Runtime", "first", "get", "versions"]

_CLASSES = {
    "pytorch": ("pytorch", "PytorchRuntime"),
    "onnxruntime": ("onnxruntime", "OnnxRuntime"),
    "litert": ("litert", "LitertRuntime"),
    "litert-reference": ("litert", "LitertReferenceRuntime"),
    "tensorflow": ("tensorflow", "TensorflowRuntime"),
    "arm64-onnxruntime": ("arm64", "Arm64OnnxRuntime"),
    "arm64-litert": ("arm64", "Arm64LitertRuntime"),
    "arm64-a53-onnxruntime": ("arm64", "Arm64A53OnnxRuntime"),
    "arm64-a53-litert": ("arm64", "Arm64A53LitertRuntime"),
    "x86-avx2-onnxruntime": ("avx2", "Avx2OnnxRuntime"),
    "web-onnxruntime": ("web.runtime", "WebOnnxRuntime"),
    "web-onnxruntime-node": ("web.runtime", "WebOnnxNodeRuntime"),
    "web-litert": ("web.runtime", "WebLitertRuntime"),
}
"""Module and class by name."""
NAMES: Sequence[str] = tuple(_CLASSES)
"""Every runtime, installed or not, the reference first."""


def get(name: str) -> Runtime:
    """Return a runtime by name. Raises BundleError when there is none."""
    if name not in _CLASSES:
        raise BundleError(f"runtime {name!r} is unknown", hint=f"known: {', '.join(NAMES)}")
    module, kind = _CLASSES[name]
    runtime: Runtime = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
    return runtime


def first(format: FormatName) -> str:
    """Return the name of the first runtime of a format, beside which others run the same file."""
    return next(name for name in NAMES if get(name).format == format)


def versions() -> dict[str, str]:
    """Return the version of each runtime that is installed, by its name."""
    found = {name: get(name).version() for name in NAMES}
    return {name: version for name, version in found.items() if version is not None}
