"""Bad exports: a bundle with one ONNX file changed, and pinned as if it were right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import MANIFEST, Manifest
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


def perturb(bundle: Path, file: str, by: float) -> None:
    """Export a model again with other weights in its head, and pin it anew."""
    path = bundle / file
    model = onnx.load(path)
    weights = [t for t in model.graph.initializer if sorted(t.dims)[:1] == [7] and len(t.dims) == 2]
    heads = [t for t in weights if not t.name.startswith("screen/")]
    assert len(heads) == 1
    noise = np.random.default_rng(0).normal(0, by, tuple(heads[0].dims)).astype(np.float32)
    changed = numpy_helper.from_array(numpy_helper.to_array(heads[0]) + noise, heads[0].name)
    heads[0].CopyFrom(changed)
    path.write_bytes(model.SerializeToString(deterministic=True))
    manifest = Manifest.from_bytes((bundle / MANIFEST).read_bytes(), bundle.name)
    writer.seal(bundle, manifest.model_copy(update={"files": writer.pin(bundle)}))
