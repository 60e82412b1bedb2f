"""Runtimes that run a bundle: one file each, behind one Protocol."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from classkinfy_export.errors import BundleError
from classkinfy_export.runtimes.base import Engine, Runtime

__all__ = ["NAMES", "Engine", "Runtime", "get"]

_MODULES = {
    "pytorch": "PytorchRuntime",
    "onnxruntime": "OnnxRuntime",
    "litert": "LitertRuntime",
}
NAMES: Sequence[str] = tuple(_MODULES)
"""Every runtime, installed or not, the reference first."""


def get(name: str) -> Runtime:
    """Return a runtime by name. Raises BundleError when there is none."""
    if name not in _MODULES:
        raise BundleError(f"runtime {name!r} is unknown", hint=f"known: {', '.join(NAMES)}")
    module = importlib.import_module(f"classkinfy_export.runtimes.{name}")
    runtime: Runtime = getattr(module, _MODULES[name])()
    return runtime
