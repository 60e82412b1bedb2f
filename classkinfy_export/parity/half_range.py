"""Whether half precision can hold what a LiteRT file computes, on photos; no GPU is needed.

GPU delegates compute in half precision, and may add in it too: above 65,504 a number is infinite
and every answer NaN, while the CPU is right. So each operator of the file is run here in float32,
and looked at for the largest number that it gives, or reaches on its way where it adds up a window:
SUM, MEAN and AVERAGE_POOL_2D. The terms of a dot product are not looked at.

A delegate adds in an order of its own, in parts that it adds in turn. Whichever these are, no
partial sum is larger than all positive terms together, or all negative ones, and some order reaches
that; so the larger of the two counts. The sum of absolute values would count what no order reaches,
the sum itself would miss what cancels.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.document import Document
from classkinfy_export.errors import BundleError, require
from classkinfy_export.frame import frame
from classkinfy_export.precision import Precision

LARGEST = 65504.0
"""Of half precision (IEEE 754 binary16)."""
HEADROOM = 8.0
"""What is wanted: photos to come may reach further than those that were looked at."""

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class Row(Document):
    """What one operator reaches."""

    stage: str
    operator: str
    """``MEAN``, for instance."""
    tensor: str
    """``tensor_<index>``, as ``localise`` calls it."""
    module: str
    """Which computes it, in PyTorch."""
    terms: int
    """Added up to a value of the tensor; 1 where the value itself is the largest."""
    largest: float
    """The magnitude of the largest value or partial sum."""
    headroom: float
    """How often it fits into ``LARGEST``."""


class HalfRange(Document):
    """What the operators of a bundle's LiteRT files reach."""

    manifest_sha256: str
    precision: Precision
    images: int
    wanted: float = HEADROOM
    networks: tuple[str, ...]
    """The stages that must fit. Others count in whole numbers up to 2**24 and measure with larger
    ones: their place is the CPU, whatever they reach."""
    rows: tuple[Row, ...]
    """Of a network every sum, its largest value, and whatever has not the headroom wanted; of
    another stage what has the least."""

    def unsafe(self) -> list[Row]:
        """Return the rows of networks without the headroom wanted."""
        return [r for r in self.rows if r.stage in self.networks and r.headroom < self.wanted]


def check(
    bundle: Bundle,
    photos: Sequence[Path],
    *,
    precision: Precision = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> HalfRange:
    """Run the stages on photos, operator by operator.

    Args:
        bundle: an opened bundle.
        photos: at least one, such as those that calibration takes.
        precision: of the LiteRT files; tensors of int8 are not looked at, their ranges are known.
        progress: called with (done, total) photos.

    Raises:
        BundleError: the bundle has no stages in LiteRT, or not in this precision.
        ImageError: a photo cannot be decoded.
        MissingDependencyError: ai-edge-litert is not installed.
    """
    require("ai_edge_litert", extra="litert", purpose="running LiteRT files operator by operator")
    manifest = bundle.manifest
    files: dict[str, Any] = {}
    stages = {}
    for spec in manifest.stages:
        model = manifest.find_model(spec.name, "litert", precision)
        if model is None:
            raise BundleError(
                f"the bundle has no stage {spec.name} in LiteRT, {precision}",
                hint="export with 'litert' among the formats, 'staged' among the forms and this "
                "precision",
            )
        if model.path not in files:
            files[model.path] = _File(bundle.read(model.path))
        stages[spec.name] = _Stage(files[model.path], spec.name, model.entries[spec.name])
    for done, photo in enumerate(photos):
        progress(done, len(photos))
        tensors: dict[str, Array] = {"image": frame(photo, manifest.capture, manifest.fit)}
        for spec in manifest.stages:
            tensors |= stages[spec.name].run({t.name: tensors[t.name] for t in spec.inputs})
    progress(len(photos), len(photos))
    networks = tuple(name for name in stages if name in manifest.networks)
    rows: list[Row] = []
    for name, stage in stages.items():
        found = stage.rows()
        least = min(found, key=lambda row: row.headroom)
        rows += _told(found) if name in networks else [least]
    return HalfRange(
        manifest_sha256=bundle.sha256,
        precision=precision,
        images=len(photos),
        networks=networks,
        rows=tuple(rows),
    )


def _told(found: list[Row]) -> list[Row]:
    largest = max((row for row in found if row.terms == 1), key=lambda row: row.largest)
    return [r for r in found if r.terms > 1 or r is largest or r.headroom < HEADROOM]


class _File:
    """A LiteRT file, parsed, and opened so that every tensor can be read."""

    def __init__(self, data: bytes) -> None:
        self.schema = importlib.import_module("ai_edge_litert.schema_py_generated")
        self.model = self.schema.ModelT.InitFromPackedBuf(data)
        self._kinds: dict[int, str] = {
            v: name for name, v in vars(self.schema.BuiltinOperator).items() if isinstance(v, int)
        }
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it needs more memory, which is what is wanted
            self.interpreter = runtime.Interpreter(
                model_content=data,
                experimental_op_resolver_type=(
                    runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
                experimental_preserve_all_tensors=True,
            )

    def kind(self, operator: Any) -> str:  # noqa: ANN401  (generated, untyped)
        code = self.model.operatorCodes[operator.opcodeIndex]
        return self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def adding(self, graph: Any, operator: Any) -> _Adding | None:  # noqa: ANN401
        """Return what an operator adds up, None of one that does not add windows."""
        kind = self.kind(operator)
        if kind in ("SUM", "MEAN"):
            held = self.model.buffers[graph.tensors[operator.inputs[1]].buffer]
            axes = tuple(int(axis) for axis in held.data.view(np.int32))
            shape = graph.tensors[operator.inputs[0]].shape
            return _Adding(math.prod(int(shape[a]) for a in axes), lambda x: x.sum(axis=axes))
        if kind == "AVERAGE_POOL_2D":
            pool = operator.builtinOptions
            size, step = (pool.filterHeight, pool.filterWidth), (pool.strideH, pool.strideW)
            same = pool.padding == self.schema.Padding.SAME
            return _Adding(math.prod(size), lambda x: _pooled(x, size, step, same))
        return None


class _Adding(NamedTuple):
    """How an operator adds."""

    terms: int
    sums: Callable[[Floats], Floats]


class _Stage:
    """The largest number that each operator of a signature has reached."""

    def __init__(self, file: _File, name: str, entry: str) -> None:
        self.name, self._interpreter = name, file.interpreter
        signatures = {s.signatureKey.decode(): s for s in file.model.signatureDefs}
        self._subgraph = int(signatures[entry].subgraphIndex)
        graph = file.model.subgraphs[self._subgraph]
        self._tensors = graph.tensors
        self._runner = file.interpreter.get_signature_runner(entry)
        self._operators = [
            (file.kind(operator), operator, file.adding(graph, operator))
            for operator in graph.operators
            if graph.tensors[operator.outputs[0]].type == file.schema.TensorType.FLOAT32
        ]
        self._reached = np.zeros((len(self._operators), 2))
        """Of each operator: the magnitude of its largest value, and of its largest partial sum."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run on one photo's tensors, and return the outputs."""
        outputs = {name: value.copy() for name, value in self._runner(**inputs).items()}
        for place, (_, operator, adding) in enumerate(self._operators):
            found = [np.abs(self._value(operator.outputs[0])).max(), 0.0]
            if adding is not None:
                taken = self._value(operator.inputs[0]).astype(np.float64)
                signed = (np.maximum(taken, 0.0), np.maximum(-taken, 0.0))
                found[1] = max(adding.sums(part).max() for part in signed)
            # What is not a number is none that half precision could hold either.
            found = np.nan_to_num(found, nan=np.inf, posinf=np.inf)
            self._reached[place] = np.maximum(self._reached[place], found)
        return outputs

    def rows(self) -> list[Row]:
        """Return a row for each operator, and one more for each that adds."""
        rows = []
        for (kind, operator, adding), reached in zip(self._operators, self._reached, strict=True):
            for terms, largest in zip((1, adding and adding.terms), reached, strict=True):
                if terms is not None:
                    rows.append(
                        Row(
                            stage=self.name,
                            operator=kind,
                            tensor=f"tensor_{operator.outputs[0]}",
                            module=_module(self._tensors[operator.outputs[0]].name.decode()),
                            terms=terms,
                            largest=float(largest),
                            headroom=LARGEST / float(largest) if largest else math.inf,
                        )
                    )
        return rows

    def _value(self, index: int) -> Array:
        value: Array = self._interpreter.get_tensor(int(index), self._subgraph)
        return value


def _pooled(x: Floats, size: tuple[int, int], step: tuple[int, int], same: bool) -> Floats:
    """Add float64 [n, h, w, c] up over windows, as LiteRT places them."""
    margins = [(0, 0)] * 4
    for axis in (0, 1):
        length, window, stride = x.shape[axis + 1], size[axis], step[axis]
        missing = max((-(-length // stride) - 1) * stride + window - length, 0) * same
        margins[axis + 1] = (missing // 2, missing - missing // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, margins), size, axis=(1, 2))
    added: Floats = windows[:, :: step[0], :: step[1]].sum(axis=(-2, -1))
    return added


def _module(tensor: str) -> str:
    """Return the attributes that lead to a module, of the name that the converter gave a tensor."""
    parts = tensor.partition(";")[0].split("/")
    return "/".join(part.rpartition(".")[2] for part in parts[1:] or parts)
