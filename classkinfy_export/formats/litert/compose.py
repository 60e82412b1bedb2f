"""One file of several stages, and the fused graph composed from them; as in ``onnx``.

::

    prepare  ─┐              ┌─ a signature for each
    screen   ─┼─ main.tflite ┤
    classify ─┘              └─ pipeline: the operators of all once more, wired together

Composing, rather than converting the whole pipeline beside its stages, converts each stage once,
keeps each weight in the file once, and lets stages be quantised on their own first. There is no
control flow: all heads on the trunk are computed, and ``select`` takes the one of the diagnosis.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.quantization.ranges import Ranges
from classkinfy_export.stages.assembly import Assembly
from classkinfy_export.stages.pipeline import Pipeline

Places = dict[int, int]
"""Of tensors: their index in the fused graph, by their index in their stage's own."""


class Stage(NamedTuple):
    """A stage's file, and what it was quantised with, where it was."""

    data: bytes
    ranges: Ranges | None = None
    """By ``signature/index of the tensor``."""
    floats: tuple[str, ...] | None = None
    """Modules whose convolutions it computes in float."""


class Composed(NamedTuple):
    """A file of several signatures, and what its stages were quantised with."""

    data: bytes
    ranges: Ranges
    floats: dict[str, tuple[str, ...]]
    """By signature."""


_ALIGNMENT = 16
"""Of buffers, by LiteRT's schema; its generated Python puts them anywhere."""
_VERSION = b"min_runtime_version"
_IDENTIFIER = b"TFL3"
_STAGE = re.compile(r"(?<![^;])([\w.]+\.[A-Z_]\w*)")
"""In a tensor's name, the class of the stage that it is of."""
_GRAPH = re.compile("([sS]ubgraphIndex|^subgraph)$")
"""An operator's option that is the place of another graph."""
_PIPELINE = f"{Pipeline.__module__}.{Pipeline.__qualname__}"


def compose(entries: Sequence[str], stages: Mapping[str, Stage], assembly: Assembly) -> Composed:
    """Compose a file.

    Args:
        entries: its signatures: stages, and ``pipeline``.
        stages: by name; for ``pipeline`` all, and ``decide`` and ``select``.
        assembly: the stages they came from.
    """
    file = _File()
    ranges: Ranges = {}
    floats: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        if entry != PIPELINE:
            stage = stages[entry]
            file.add(stage.data)
            ranges |= stage.ranges or {}
            if stage.floats is not None:
                floats[entry] = stage.floats
    if PIPELINE in entries:
        for name, places in file.fuse(stages, assembly).items():
            for tensor, bounds in (stages[name].ranges or {}).items():
                ranges[f"{PIPELINE}/{places[int(tensor.rpartition('/')[2])]}"] = bounds
            own = stages[name].floats
            if own is not None:
                floats[PIPELINE] = tuple(f"{name}/{module}" for module in own)
    return Composed(file.written(), ranges, floats)


class _Part(NamedTuple):
    """A stage's file, parsed."""

    model: Any
    signature: Any
    inner: dict[int, int]
    """Where its other graphs are, by their index in it."""

    @property
    def graph(self) -> Any:  # noqa: ANN401
        """Of the signature."""
        return self.model.subgraphs[self.signature.subgraphIndex]

    def placed(self, options: Any) -> Any:  # noqa: ANN401
        """Return an operator's options with the places that other graphs have now."""
        if options is None or not self.inner:
            return options
        placed = copy.copy(options)
        for name in filter(_GRAPH.search, vars(options)):
            setattr(placed, name, self.inner[getattr(options, name)])
        return placed


class _File:
    """Puts files of one signature each together."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.subgraphs, self._model.signatureDefs = [], []
        self._model.operatorCodes, self._model.buffers = [], [schema.BufferT()]
        self._codes: dict[tuple[int, int, bytes | None], int] = {}
        self._buffers: dict[bytes, int] = {b"": 0}
        self._names: set[str] = set()
        self._version = b""

    def add(self, data: bytes) -> None:
        """Add a stage, as its file has it."""
        place, part = self._reserved(), self._part(data)
        given, taken = part.signature.inputs, part.signature.outputs
        graph = self._copied(part, part.graph)
        self._place(place, part.signature.signatureKey, graph, given, taken)

    def fuse(self, stages: Mapping[str, Stage], assembly: Assembly) -> dict[str, Places]:
        """Add a graph that is made of stages.

        Args:
            stages: in running order. A stage takes what those before it give, by name; what a
                grader gives is called after it.
            assembly: the stages.

        Returns:
            where the tensors of each stage are.
        """
        spec = assembly.pipeline_spec
        place, fused = self._reserved(), schema.SubGraphT()
        fused.tensors, fused.operators = [], []
        known: dict[str, int] = {}
        places: dict[str, Places] = {}
        for stage, (data, *_) in stages.items():
            part = self._part(data)
            given = {int(t.tensorIndex): t.name.decode() for t in part.signature.inputs}
            places[stage] = own = {}
            for index, name in given.items():
                if name not in known:
                    assert name in {tensor.name for tensor in spec.inputs}, (stage, name)
                    known[name] = len(fused.tensors)
                    fused.tensors.append(self._tensor(part, part.graph.tensors[index], stage))
                own[index] = known[name]
            for index, tensor in enumerate(part.graph.tensors):
                if index not in own:
                    own[index] = len(fused.tensors)
                    fused.tensors.append(self._tensor(part, tensor, stage))
            fused.operators += [self._operator(part, op, own) for op in part.graph.operators]
            taken = {int(t.tensorIndex): t.name.decode() for t in part.signature.outputs}
            if stage in assembly.specs and assembly.specs[stage].kind == "grade":
                taken = dict.fromkeys(taken, stage)
            known |= {name: own[index] for index, name in taken.items()}
        ends = [[_named(t.name, known[t.name]) for t in of] for of in (spec.inputs, spec.outputs)]
        fused.inputs, fused.outputs = ([t.tensorIndex for t in of] for of in ends)
        self._place(place, spec.name.encode(), fused, *ends)
        return places

    def written(self) -> bytes:
        """Return the file."""
        version = schema.MetadataT()
        version.name, version.buffer = _VERSION, self._buffer(self._version)
        self._model.metadata = [version]
        builder = flatbuffers.Builder(sum(map(len, self._buffers)))
        builder.Finish(self._model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _part(self, data: bytes) -> _Part:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        (signature,) = model.signatureDefs
        for entry in model.metadata or ():
            if entry.name == _VERSION:
                content = bytes(model.buffers[entry.buffer].data)
                self._version = max(self._version, content, key=_numbers)
        part = _Part(model, signature, {})
        # What operators run as graphs of their own, a composite's operators for instance.
        inner = [i for i in range(len(model.subgraphs)) if i != signature.subgraphIndex]
        part.inner.update((index, self._reserved()) for index in inner)
        for index, place in part.inner.items():
            self._model.subgraphs[place] = self._copied(part, model.subgraphs[index])
        return part

    def _copied(self, part: _Part, graph: Any) -> Any:  # noqa: ANN401
        copied = schema.SubGraphT()
        copied.tensors = [self._tensor(part, tensor) for tensor in graph.tensors]
        same = range(len(graph.tensors))
        copied.operators = [self._operator(part, op, same) for op in graph.operators]
        copied.inputs, copied.outputs, copied.name = graph.inputs, graph.outputs, graph.name
        return copied

    def _reserved(self) -> int:
        self._model.subgraphs.append(None)
        return len(self._model.subgraphs) - 1

    def _place(self, place: int, name: bytes, graph: Any, given: Any, taken: Any) -> None:  # noqa: ANN401
        signature = schema.SignatureDefT()
        signature.signatureKey = graph.name = name
        signature.subgraphIndex = place
        signature.inputs, signature.outputs = given, taken
        self._model.subgraphs[place] = graph
        self._model.signatureDefs.append(signature)

    def _tensor(self, part: _Part, tensor: Any, stage: str | None = None) -> Any:  # noqa: ANN401
        placed = copy.copy(tensor)
        data = part.model.buffers[tensor.buffer].data
        placed.buffer = self._buffer(b"" if data is None else bytes(data))
        name = tensor.name.decode()
        if stage is not None:
            name = _within(name, stage)
        while name in self._names:  # ai-edge-quantizer takes no file where two are alike
            name += f";{part.signature.signatureKey.decode()}"
        self._names.add(name)
        placed.name = name.encode()
        return placed

    def _buffer(self, data: bytes) -> int:
        if data not in self._buffers:
            self._buffers[data] = len(self._model.buffers)
            buffer = _Aligned()
            buffer.data = data
            self._model.buffers.append(buffer)
        return self._buffers[data]

    def _operator(self, part: _Part, operator: Any, places: Sequence[int] | Places) -> Any:  # noqa: ANN401
        placed = copy.copy(operator)
        code = part.model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        key = (int(kind), int(code.version), code.customCode)
        if key not in self._codes:
            self._codes[key] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        placed.opcodeIndex = self._codes[key]
        placed.inputs, placed.outputs = (
            [int(i) if i < 0 else places[int(i)] for i in of]
            for of in (operator.inputs, operator.outputs)
        )
        placed.builtinOptions = part.placed(operator.builtinOptions)
        placed.builtinOptions2 = part.placed(operator.builtinOptions2)
        return placed


class _Aligned(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data is where runtimes may map it: ``force_align: 16`` in the schema."""

    def Pack(self, builder: Any) -> Any:  # noqa: ANN401, N802  (LiteRT's name)
        builder.StartVector(1, len(self.data), _ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _within(name: str, stage: str) -> str:
    """Return a tensor's name as torch would have it, were its stage a module of ``Pipeline``."""
    return _STAGE.sub(rf"{_PIPELINE}/\1_{stage}", name)


def _named(name: str, index: int) -> Any:  # noqa: ANN401
    tensor = schema.TensorMapT()
    tensor.name, tensor.tensorIndex = name.encode(), index
    return tensor


def _numbers(content: bytes) -> tuple[int, ...]:
    return tuple(map(int, re.findall(rb"\d+", content)))
