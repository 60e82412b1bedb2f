"""What a stage asks of a core: multiply-accumulates and bytes moved, operator by operator.

Counted from the model file, whose shapes are all fixed, so the same on every machine. Weights count
as read once in a run, activations as written by one operator and read by the next: what a core
moves where nothing is kept in its caches, so an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.parsing import parsing
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.document import Document
from classkinfy_export.errors import BundleError
from classkinfy_export.precision import Precision

Kind = Literal["convolution", "pointwise", "depthwise", "matrix", "elementwise"]
"""Kinds that runtimes have kernels of their own for: convolutions of kernels larger than 1x1, of
1x1, of one channel each; products of matrices; and all that multiplies no matrix."""
Number = Literal["fp32", "int8"]
"""What an operator computes in."""
KINDS: tuple[Kind, ...] = get_args(Kind)
NUMBERS: tuple[Number, ...] = get_args(Number)


class Operator(Document):
    """One operator of a model file."""

    place: int
    """Among the operators of its graph, from 0; of an ``If``, in the branch."""
    name: str
    """The format's own, as ``CONV_2D`` or ``Conv``."""
    kind: Kind
    number: Number
    macs: int
    """Multiply-accumulates; 0 of elementwise ones."""
    moved_bytes: int
    """Weights and inputs read, and outputs written."""
    elements: int
    """Of its largest activation."""


class Loads(NamedTuple):
    """Operators as arrays, an entry for each."""

    kind: npt.NDArray[np.intp]
    """Its place in ``KINDS``."""
    number: npt.NDArray[np.intp]
    """Its place in ``NUMBERS``."""
    macs: npt.NDArray[np.float64]
    moved_bytes: npt.NDArray[np.float64]
    elements: npt.NDArray[np.float64]


class Work(Document):
    """What one run of a stage asks of a core."""

    stage: str
    format: str
    precision: Precision
    operators: tuple[Operator, ...]
    """Those that cost anything: reshapes and the like are left out."""

    @property
    def loads(self) -> Loads:
        """The operators, to compute with all at once."""
        return Loads(
            kind=np.array([KINDS.index(o.kind) for o in self.operators], np.intp),
            number=np.array([NUMBERS.index(o.number) for o in self.operators], np.intp),
            macs=np.array([o.macs for o in self.operators], np.float64),
            moved_bytes=np.array([o.moved_bytes for o in self.operators], np.float64),
            elements=np.array([o.elements for o in self.operators], np.float64),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates in all."""
        return sum(operator.macs for operator in self.operators)

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written in all."""
        return sum(operator.moved_bytes for operator in self.operators)

    def macs_by_kind(self) -> dict[Kind, int]:
        """Multiply-accumulates of each kind that has any."""
        totals = {
            kind: sum(operator.macs for operator in self.operators if operator.kind == kind)
            for kind in KINDS
        }
        return {kind: macs for kind, macs in totals.items() if macs}


def count(bundle: Bundle, stage: str, precision: Precision = "fp32") -> Work:
    """Count the work of a stage, from its LiteRT file, or its ONNX file where there is none.

    Raises:
        BundleError: the bundle has no such stage, or does not hold it in this precision.
        MissingDependencyError: the format's package is not installed.
    """
    bundle.manifest.stage(stage)
    model = _model(bundle, stage, precision)
    data, entry = bundle.read(model.path), model.entries[stage]
    operators: Iterable[Operator]
    with parsing(model.path):
        if model.format == "litert":
            from classkinfy_export.latency.estimate import litert

            operators = litert.operators(data, entry)
        else:
            from classkinfy_export.latency.estimate import onnx

            operators = onnx.operators(data)
        counted = tuple(operators)
    return Work(stage=stage, format=model.format, precision=precision, operators=counted)


def _model(bundle: Bundle, stage: str, precision: Precision) -> ModelFile:
    manifest = bundle.manifest
    model = manifest.find_model(stage, "litert", precision) or manifest.find_model(
        stage, "onnx", precision
    )
    if model is None:
        held = dict.fromkeys(
            model.precision
            for model in manifest.models
            if model.format in ("litert", "onnx") and stage in model.entries
        )
        raise BundleError(
            f"the bundle holds no LiteRT or ONNX file of {stage} in {precision}",
            hint=f"it holds {', '.join(held)}" if held else "export it again with one of them",
        )
    return model
