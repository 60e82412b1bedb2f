"""Modules to one flatbuffer with a signature for each; equal weights are stored once."""

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
def _float_levels(modules: list[nn.Module]) -> Iterator[None]:
    """LiteRT has no 8-bit maximum: hold the levels of ``prepare`` in floats meanwhile."""
    prepares = {
        part for module in modules for part in module.modules() if isinstance(part, Prepare)
    }
    before = {part: part.level_dtype for part in prepares}
    for part in prepares:
        part.level_dtype = torch.float32
    try:
        yield
    finally:
        for part, dtype in before.items():
            part.level_dtype = dtype


def convert(stages: dict[str, tuple[nn.Module, StageSpec]]) -> bytes:
    """Convert stages into one LiteRT file.

    Args:
        stages: module and spec by signature name.

    Returns:
        the flatbuffer.

    Raises:
        ExportError: the converter failed, or has no lowering for an operator.
    """
    with quiet():
        import litert_torch
    with quiet(), torch.no_grad(), _float_levels([module for module, _ in stages.values()]):
        converter = None
        for name, (module, spec) in stages.items():
            add = litert_torch.signature if converter is None else converter.signature
            converter = add(name, module, sample_kwargs=example_inputs(spec))
        assert converter is not None
        try:
            model = converter.convert()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise ExportError(f"{', '.join(stages)} does not convert to LiteRT: {error}") from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            model.export(str(path))
            return path.read_bytes()
