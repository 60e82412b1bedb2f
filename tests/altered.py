"""Bad exports: a bundle's copy with one ONNX file changed, and pinned as if it were right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle


def altered(
    source: Path, target: Path, file: str, change: Callable[[onnx.ModelProto], None]
) -> Bundle:
    """Copy a bundle, change one ONNX file, and pin the result: a bad export, not a bad copy."""
    shutil.copytree(source, target)
    path = target / "models" / "onnx" / f"{file}.onnx"
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    manifest = Bundle.open(source).manifest
    writer.seal(target, manifest.model_copy(update={"files": writer.pin(target)}))
    return Bundle.open(target)
