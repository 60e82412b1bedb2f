"""A signature of a LiteRT file, taken apart."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from classkinfy_export.bundle import parsing
from classkinfy_export.errors import BundleError
from classkinfy_export.parity.graphs.base import PART, Graph, Operator

_IDENTIFIER = b"TFL3"
_NESTED = ("CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_COMPOSITE", "STABLEHLO_REDUCE_WINDOW")
"""Operators that run another graph of the file."""


class LitertGraph(Graph):
    """The graph behind one signature.

    Its tensors are called ``tensor_<index>``, but for the stage's inputs and outputs.

    Args:
        data: the file.
        entry: the signature.

    Raises:
        BundleError: an operator runs another graph of the file.
    """

    def __init__(self, data: bytes, entry: str) -> None:
        self._schema = schema = importlib.import_module("ai_edge_litert.schema_py_generated")
        self._kinds = _by_value(schema.BuiltinOperator)
        self._dtypes = {v: name.lower() for v, name in _by_value(schema.TensorType).items()}
        self._model = parsing.litert(data)
        signature = next(s for s in self._model.signatureDefs if s.signatureKey.decode() == entry)
        self._graph = self._model.subgraphs[signature.subgraphIndex]
        names = {t.tensorIndex: t.name.decode() for t in (*signature.inputs, *signature.outputs)}
        self._name = {
            index: names.get(index, f"tensor_{index}") for index in range(len(self._graph.tensors))
        }
        self._index = {name: index for index, name in self._name.items()}
        self.inputs = tuple(names[t.tensorIndex] for t in signature.inputs)
        self.outputs = tuple(names[t.tensorIndex] for t in signature.outputs)
        computed = {i for op in self._graph.operators for i in op.outputs}
        computed |= {t.tensorIndex for t in signature.inputs}
        self.operators = tuple(
            Operator(
                index=index,
                kind=self._kind(op),
                inputs=tuple(self._name[int(i)] for i in op.inputs if i in computed),
                outputs=tuple(self._name[int(i)] for i in op.outputs),
            )
            for index, op in enumerate(self._graph.operators)
        )
        for op in self.operators:
            if op.kind in _NESTED:
                raise BundleError(
                    f"signature {entry}: operator {op.index} is a {op.kind}, which runs another "
                    "graph and cannot be taken out of the file",
                    hint="export without it",
                )
        super().__init__()

    def dtype(self, tensor: str) -> str:
        """Return a tensor's dtype; see ``Graph.dtype``."""
        return self._dtypes[self._graph.tensors[self._index[tensor]].type]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        shape = self._graph.tensors[self._index[tensor]].shape
        return () if shape is None else tuple(int(n) for n in shape)

    def cut(self, given: Sequence[str], wanted: Sequence[str]) -> bytes:
        """Return a part as a model; see ``Graph.cut``."""
        schema = self._schema
        tensors, buffers, codes = _Kept(self._tensor), _Kept(self._buffer), _Kept(self._code)
        buffers.place(0)  # by convention an empty one
        overridden = {self._index[name] for name in given}
        graph = schema.SubGraphT()
        graph.name = PART.encode()
        graph.operators = []
        for op in self.needed(given, wanted):
            source = self._graph.operators[op.index]
            placed = copy.copy(source)
            placed.opcodeIndex = codes.place(source.opcodeIndex)
            placed.inputs = tensors.places(source.inputs)
            placed.outputs = tensors.places(
                -int(i) - 2 if int(i) in overridden else int(i) for i in source.outputs
            )
            graph.operators.append(placed)
        used = [name for name in given if self._index[name] in tensors.found]
        graph.inputs = tensors.places(self._index[name] for name in used)
        graph.outputs = tensors.places(self._index[name] for name in wanted)
        graph.tensors = tensors.copies()
        for tensor in graph.tensors:
            tensor.buffer = buffers.place(tensor.buffer)
        signature = schema.SignatureDefT()
        signature.signatureKey = PART.encode()
        signature.inputs = self._named(used, graph.inputs)
        signature.outputs = self._named(wanted, graph.outputs)
        model = schema.ModelT()
        model.version = self._model.version
        model.subgraphs, model.signatureDefs = [graph], [signature]
        model.operatorCodes, model.buffers = codes.copies(), buffers.copies()
        builder = importlib.import_module("flatbuffers").Builder(2**20)
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _named(self, names: Sequence[str], places: Iterable[int]) -> list[Any]:
        maps = []
        for name, place in zip(names, places, strict=True):
            made = self._schema.TensorMapT()
            made.name, made.tensorIndex = name.encode(), int(place)
            maps.append(made)
        return maps

    def _kind(self, op: Any) -> str:  # noqa: ANN401  (generated, untyped)
        code = self._model.operatorCodes[op.opcodeIndex]
        kind = self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        return kind if code.customCode is None else f"{kind} {code.customCode.decode()}"

    def _tensor(self, index: int) -> Any:  # noqa: ANN401
        """Return a copy of a tensor; of -2 - index, of one whose name is given to another."""
        copied = copy.copy(self._graph.tensors[index if index >= 0 else -index - 2])
        if index < 0:
            copied.name = copied.name + b"/computed"
        return copied

    def _buffer(self, index: int) -> Any:  # noqa: ANN401
        return self._model.buffers[index]

    def _code(self, index: int) -> Any:  # noqa: ANN401
        return self._model.operatorCodes[index]


class _Kept:
    """What a part keeps of a list, renumbered in the order in which it was asked for."""

    def __init__(self, source: Callable[[int], Any]) -> None:
        self._source = source
        self.found: dict[int, int] = {}

    def place(self, index: int) -> int:
        return self.found.setdefault(index, len(self.found))

    def places(self, indices: Iterable[int]) -> Any:  # noqa: ANN401
        """Return places as a flatbuffer has them; -1 is an operand that is not there."""
        return np.array([-1 if i == -1 else self.place(int(i)) for i in indices], np.int32)

    def copies(self) -> list[Any]:
        return [self._source(index) for index in self.found]


def _by_value(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
