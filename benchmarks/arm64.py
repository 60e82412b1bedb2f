"""Instructions of one model file on an emulated Cortex-A76, as ``classkinfy bench --arm64``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import FileEntry, Manifest, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec
from classkinfy_export.runtimes.arm64 import Arm64Runtime

_REPEATS = 3
"""After a run that is not counted, in which memory is laid out."""


class _Memory:
    """One file that is nowhere but here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def names(self) -> list[str]:
        return ["model"]

    def size(self, name: str) -> int:
        return len(self._data)

    def read(self, name: str) -> bytes:
        return self._data


def instructions(
    model: bytes, spec: StageSpec, runtime: str, values: npt.NDArray[np.generic]
) -> int:
    """Count the instructions of a run.

    Args:
        model: an ONNX or LiteRT file, of one stage.
        spec: the stage; it has one input.
        runtime: ``onnxruntime`` or ``litert``.
        values: of the input.

    Raises:
        MissingDependencyError: the emulated machine is not set up.
    """
    emulated = runtimes.get(f"arm64-{runtime}")
    assert isinstance(emulated, Arm64Runtime)
    sha256 = hashlib.sha256(model).hexdigest()
    held = ModelFile(
        path="model", format=emulated.format, precision="fp32", entries={spec.name: spec.name}
    )
    manifest = Manifest.model_construct(
        stages=(spec,),
        pipeline=None,
        models=(held,),
        files={"model": FileEntry(sha256=sha256, size_bytes=len(model))},
    )
    with emulated.counting(Bundle(Path("model"), _Memory(model), manifest, sha256)) as engine:
        counts = []
        for _ in range(1 + _REPEATS):
            engine.run(spec.name, {spec.inputs[0].name: values})
            counts.append(engine.instructions())
    return int(np.min(counts[1:]))
