"""Work of an ONNX file whose shapes are fixed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from classkinfy_export.bundle import parsing
from classkinfy_export.errors import BundleError, require
from classkinfy_export.latency.estimate.work import Kind, Number, Operator

_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Constant")
"""The same bytes under another shape, or none."""
_CODED = ("QuantizeLinear", "DequantizeLinear")
"""Runtimes fold them into the operator between them, which then computes in int8."""
_PARTIAL = ("Slice", "Gather")
"""They read as much as they write, not all of what they are given."""
_FILTERS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolutions, and which of their inputs the filters are."""
_MATRIX = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
_FUSED = ("Relu", "Clip", "LeakyRelu")
"""Runtimes apply them to what a convolution has in its registers."""


def operators(model: bytes) -> Iterator[Operator]:
    """Give the operators of a file's graph that cost anything, in order.

    Of an ``If`` the dearer branch counts: only one of them runs.

    Raises:
        BundleError: a shape in it is not fixed.
        MissingDependencyError: onnx is not installed.
    """
    require("onnx", extra="export", purpose="counting the work of an ONNX file")
    import onnx

    parsed = onnx.shape_inference.infer_shapes(parsing.onnx(model), data_prop=True)
    return _Graph(onnx, parsed.graph, {}).operators()


class _Graph:
    """A graph, and what its values are: its own, and those of the graph around it."""

    def __init__(self, onnx: Any, graph: Any, around: dict[str, tuple[list[int], int]]) -> None:  # noqa: ANN401
        self._onnx = onnx
        self._nodes = graph.node
        self._values = dict(around)
        for info in (*graph.input, *graph.value_info, *graph.output):
            kind = info.type.tensor_type
            shape = [size.dim_value for size in kind.shape.dim]
            if kind.HasField("shape") and all(
                size.HasField("dim_value") for size in kind.shape.dim
            ):
                self._values[info.name] = shape, kind.elem_type
        self._constants = {weights.name for weights in graph.initializer}
        for weights in graph.initializer:
            self._values[weights.name] = list(weights.dims), weights.data_type

    def operators(self) -> Iterator[Operator]:
        coded = {
            node.output[0]: node.input[0]
            for node in self._nodes
            if node.op_type == "DequantizeLinear"
        }
        convolved = {node.output[0] for node in self._nodes if node.op_type == "Conv"}
        for place, node in enumerate(self._nodes):
            if node.op_type == "Constant":
                self._constants.update(node.output)
            if node.op_type == "If":
                yield from self._dearer(node)
            elif node.op_type in (*_VIEWS, *_CODED) or (
                node.op_type in _FUSED and node.input[0] in convolved
            ):
                continue
            else:
                inputs = [coded.get(name, name) for name in node.input if name]
                if not self._constants.issuperset(inputs):
                    yield self._operator(place, node, inputs)

    def _dearer(self, node: Any) -> list[Operator]:  # noqa: ANN401
        branches = [
            list(_Graph(self._onnx, attribute.g, self._values).operators())
            for attribute in node.attribute
        ]
        return max(branches, key=lambda branch: sum(o.macs for o in branch))

    def _operator(self, place: int, node: Any, inputs: list[str]) -> Operator:  # noqa: ANN401
        kind, macs = self._macs(node, inputs)
        written = sum(map(self._size, node.output))
        partial = node.op_type in _PARTIAL
        read = written if partial else sum(map(self._size, inputs))
        activations = [name for name in inputs if name not in self._constants]
        types = self._onnx.TensorProto
        number: Number = (
            "int8"
            if self._value(activations[0])[1] in (types.INT8, types.UINT8) and macs
            else "fp32"
        )
        largest = node.output if partial else [*activations, *node.output]
        return Operator(
            place=place,
            name=node.op_type,
            kind=kind,
            number=number,
            macs=macs,
            moved_bytes=read + written,
            elements=max(map(self._elements, largest)),
        )

    def _macs(self, node: Any, inputs: list[str]) -> tuple[Kind, int]:  # noqa: ANN401
        answers = self._elements(node.output[0])
        if node.op_type in _FILTERS:
            # Filters are [outputs, inputs of a group, height, width].
            _, depth, height, width = self._value(inputs[_FILTERS[node.op_type]])[0]
            macs = answers * depth * height * width
            if depth == 1 and self._value(inputs[0])[0][1] > 1:
                return "depthwise", macs
            return ("pointwise" if height == width == 1 else "convolution"), macs
        if node.op_type in _MATRIX:
            shape = self._value(inputs[0])[0]
            flipped = any(a.name == "transA" and a.i for a in node.attribute)
            return "matrix", answers * shape[0 if flipped else -1]
        return "elementwise", 0

    def _value(self, name: str) -> tuple[list[int], int]:
        try:
            return self._values[name]
        except KeyError:
            raise BundleError(
                f"the shape of {name!r} in the ONNX file is not fixed",
                hint="export the bundle again, or with LiteRT",
            ) from None

    def _elements(self, name: str) -> int:
        return math.prod(self._value(name)[0])

    def _size(self, name: str) -> int:
        kind = self._onnx.helper.tensor_dtype_to_np_dtype(self._value(name)[1])
        return self._elements(name) * int(kind.itemsize)
