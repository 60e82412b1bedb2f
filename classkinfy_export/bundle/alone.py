"""A model by itself: a bundle in memory that holds just that one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from classkinfy_export.bundle.manifest import FileEntry, Manifest, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName, StageSpec
from classkinfy_export.precision import Precision


def alone(data: bytes, spec: StageSpec, form: FormatName, precision: Precision = "fp32") -> Bundle:
    """Return a bundle that runtimes open, and nothing else does.

    Args:
        data: the model file.
        spec: its one stage, and the name of its entry.
        form: its format.
        precision: its precision.
    """
    name = f"{spec.name}.{form}"
    sha256 = hashlib.sha256(data).hexdigest()
    model = ModelFile(path=name, format=form, precision=precision, entries={spec.name: spec.name})
    content: dict[str, Any] = {
        "stages": (spec,),
        "pipeline": None,
        "models": (model,),
        "files": {name: FileEntry(sha256=sha256, size_bytes=len(data))},
    }
    return Bundle(Path(name), _Memory(name, data), Manifest.model_construct(**content), sha256)


class _Memory:
    """One file that is nowhere but here."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name, self._data = name, data

    def names(self) -> list[str]:
        return [self._name]

    def size(self, name: str) -> int:
        return len(self._data)

    def read(self, name: str) -> bytes:
        return self._data
