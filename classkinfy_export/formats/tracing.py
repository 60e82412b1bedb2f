"""What every exporter that traces a module needs: example inputs, and silence meanwhile."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from classkinfy_export.contract import Dtype, StageSpec

_DTYPES: dict[Dtype, torch.dtype] = {
    "uint8": torch.uint8,
    "int32": torch.int32,
    "float32": torch.float32,
}


def example_inputs(spec: StageSpec) -> dict[str, Tensor]:
    """Return zeros in the shapes and dtypes that a stage takes."""
    return {t.name: torch.zeros(t.shape, dtype=_DTYPES[t.dtype]) for t in spec.inputs}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters' chatter away from the terminal: Python's, logging's, and C++'s.

    C++ libraries write to file descriptors 1 and 2, so these are redirected as well; whoever
    shows progress meanwhile must hold a descriptor of its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with (
        tempfile.TemporaryFile() as sink,
        _redirected(1, sink.fileno()),
        _redirected(2, sink.fileno()),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    saved = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
