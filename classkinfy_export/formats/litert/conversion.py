"""A stage to a LiteRT file with one signature."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from classkinfy_export.contract import StageSpec
from classkinfy_export.errors import ExportError
from classkinfy_export.formats.tracing import example_inputs, quiet
from classkinfy_export.stages.prepare import Prepare


@contextmanager
def _float_levels(module: nn.Module) -> Iterator[None]:
    """LiteRT has no 8-bit maximum: hold the levels of ``prepare`` in floats meanwhile."""
    prepares = [part for part in module.modules() if isinstance(part, Prepare)]
    before = [part.level_dtype for part in prepares]
    for part in prepares:
        part.level_dtype = torch.float32
    try:
        yield
    finally:
        for part, dtype in zip(prepares, before, strict=True):
            part.level_dtype = dtype


def convert(module: nn.Module, spec: StageSpec) -> bytes:
    """Convert a stage, all float.

    Args:
        module: called with the spec's inputs, returns a dict by output name.
        spec: the stage; the signature has its name.

    Returns:
        the flatbuffer.

    Raises:
        ExportError: the converter failed, or has no lowering for an operator.
    """
    with quiet():
        import litert_torch
    with quiet(), torch.no_grad(), _float_levels(module):
        converter = litert_torch.signature(spec.name, module, sample_kwargs=example_inputs(spec))
        try:
            model = converter.convert()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise ExportError(f"{spec.name} does not convert to LiteRT: {error}") from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            model.export(str(path))
            return path.read_bytes()
