"""Work of a signature of a LiteRT file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from classkinfy_export.bundle import parsing
from classkinfy_export.errors import BundleError, require
from classkinfy_export.latency.estimate.work import Kind, Number, Operator

_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
"""The same bytes under another shape."""
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_PARTIAL = ("SLICE", "STRIDED_SLICE", "GATHER", "EMBEDDING_LOOKUP")
"""They read as much as they write, not all of what they are given."""


def operators(model: bytes, signature: str) -> Iterator[Operator]:
    """Give the operators of a signature that cost anything, in order.

    Raises:
        BundleError: the file has no such signature.
        MissingDependencyError: ai-edge-litert is not installed.
    """
    require("ai_edge_litert", extra="litert", purpose="counting the work of a LiteRT file")
    from ai_edge_litert import schema_py_generated as schema

    parsed = parsing.litert(model)
    found = {entry.signatureKey.decode(): entry for entry in parsed.signatureDefs or ()}
    if signature not in found:
        raise BundleError(
            f"the LiteRT file has no signature {signature!r}", hint=f"it has {', '.join(found)}"
        )
    graph = _Graph(schema, parsed, parsed.subgraphs[found[signature].subgraphIndex])
    return graph.operators()


class _Graph:
    """A subgraph, and what its tensors are."""

    def __init__(self, schema: Any, model: Any, subgraph: Any) -> None:  # noqa: ANN401
        self._names: dict[int, str] = {
            code: name
            for name, code in vars(schema.BuiltinOperator).items()
            if isinstance(code, int)
        }
        self._bytes = {
            schema.TensorType.FLOAT16: 2,
            schema.TensorType.INT16: 2,
            schema.TensorType.INT8: 1,
            schema.TensorType.UINT8: 1,
            schema.TensorType.BOOL: 1,
            schema.TensorType.INT64: 8,
        }
        self._int8 = schema.TensorType.INT8
        self._codes = model.operatorCodes
        self._tensors = subgraph.tensors
        self._operators = subgraph.operators
        self._constants = {
            place
            for place, tensor in enumerate(subgraph.tensors)
            if model.buffers[tensor.buffer].data is not None
            and len(model.buffers[tensor.buffer].data)
        }

    def operators(self) -> Iterator[Operator]:
        readers: dict[int, list[str]] = {}
        for operator in self._operators:
            for place in operator.inputs:
                readers.setdefault(place, []).append(self._name(operator))
        for place, operator in enumerate(self._operators):
            name = self._name(operator)
            inputs = [tensor for tensor in operator.inputs if tensor >= 0]
            if name in _VIEWS or self._constants.issuperset(inputs):
                continue
            # XNNPACK reads past the edge instead of copying into a larger image.
            after = readers.get(operator.outputs[0], [])
            if name == "PAD" and after and {*_CONVOLUTIONS}.issuperset(after):
                continue
            outputs = list(operator.outputs)
            yield self._operator(place, name, inputs, outputs, operator.builtinOptions)

    def _name(self, operator: Any) -> str:  # noqa: ANN401
        code = self._codes[operator.opcodeIndex]
        return self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def _operator(
        self,
        place: int,
        name: str,
        inputs: list[int],
        outputs: list[int],
        options: Any,  # noqa: ANN401
    ) -> Operator:
        kind, macs = self._macs(name, inputs, outputs, options)
        activations = [tensor for tensor in inputs if tensor not in self._constants]
        written = sum(map(self._size, outputs))
        read = written if name in _PARTIAL else sum(map(self._size, inputs))
        number: Number = "int8" if self._tensors[activations[0]].type == self._int8 else "fp32"
        return Operator(
            place=place,
            name=name,
            kind=kind,
            number=number,
            macs=macs,
            moved_bytes=read + written,
            elements=max(
                map(self._elements, outputs if name in _PARTIAL else [*activations, *outputs])
            ),
        )

    def _macs(
        self,
        name: str,
        inputs: list[int],
        outputs: list[int],
        options: Any,  # noqa: ANN401
    ) -> tuple[Kind, int]:
        answers = self._elements(outputs[0])
        if name in _CONVOLUTIONS:
            # Filters are [outputs, height, width, inputs of a group], or [1, height, width, …].
            _, height, width, depth = self._shape(inputs[1])
            if name == "DEPTHWISE_CONV_2D":
                return "depthwise", answers * height * width
            kind: Kind = "pointwise" if height == width == 1 else "convolution"
            return kind, answers * height * width * depth
        if name == "FULLY_CONNECTED":
            return "matrix", answers * self._shape(inputs[1])[-1]
        if name == "BATCH_MATMUL":
            first = self._shape(inputs[0])
            return "matrix", answers * first[-2 if options.adjX else -1]
        return "elementwise", 0

    def _shape(self, place: int) -> list[int]:
        shape = self._tensors[place].shape
        return [] if shape is None else [int(size) for size in shape]

    def _elements(self, place: int) -> int:
        return math.prod(self._shape(place))

    def _size(self, place: int) -> int:
        return self._elements(place) * self._bytes.get(self._tensors[place].type, 4)
