"""An ONNX file, taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from classkinfy_export.bundle import parsing
from classkinfy_export.errors import BundleError
from classkinfy_export.parity.graphs.base import Graph, Operator

if TYPE_CHECKING:
    import onnx

_OVERRIDDEN = "/computed"
"""Ends the name of what the graph computes of a tensor that is given."""


class OnnxGraph(Graph):
    """The graph of an ONNX file with static shapes.

    Args:
        data: the file.
    """

    def __init__(self, data: bytes) -> None:
        import onnx

        self._model = parsing.onnx(data)
        graph = self._model.graph
        inferred = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
        self._types = {
            value.name: value.type.tensor_type
            for value in (*inferred.value_info, *graph.input, *graph.output)
        }
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = tuple(v.name for v in graph.input if v.name not in self._constants)
        self.outputs = tuple(v.name for v in graph.output)
        computed = {*self.inputs, *(name for node in graph.node for name in node.output)}
        self.operators = tuple(
            Operator(
                index=index,
                kind=node.op_type,
                inputs=tuple(name for name in _reads(node) if name in computed),
                outputs=tuple(name for name in node.output if name),
            )
            for index, node in enumerate(graph.node)
        )
        super().__init__()

    def dtype(self, tensor: str) -> str:
        """Return a tensor's dtype; see ``Graph.dtype``."""
        from onnx import helper

        kind = self._types.get(tensor)
        if kind is None or not kind.elem_type:
            return ""
        return str(helper.tensor_dtype_to_np_dtype(kind.elem_type))

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        if tensor not in self._types:
            raise BundleError(f"the shape of {tensor} in the ONNX file cannot be inferred")
        return tuple(d.dim_value for d in self._types[tensor].shape.dim)

    def cut(self, given: Sequence[str], wanted: Sequence[str]) -> bytes:
        """Return a part as a model; see ``Graph.cut``."""
        import onnx
        from onnx import helper

        nodes: list[onnx.NodeProto] = []
        used: set[str] = set()
        for op in self.needed(given, wanted):
            node = onnx.NodeProto()
            node.CopyFrom(self._model.graph.node[op.index])
            node.output[:] = [n + _OVERRIDDEN if n in given else n for n in node.output]
            nodes.append(node)
            used.update(_reads(node))
        graph = helper.make_graph(
            nodes,
            self._model.graph.name,
            [self._value(name) for name in given if name in used],
            [self._value(name) for name in wanted],
            [tensor for name, tensor in self._constants.items() if name in used],
        )
        model = helper.make_model(
            graph,
            opset_imports=list(self._model.opset_import),
            ir_version=self._model.ir_version,
            functions=list(self._model.functions),
        )
        return bytes(model.SerializeToString(deterministic=True))

    def _value(self, name: str) -> onnx.ValueInfoProto:
        import onnx

        value = onnx.ValueInfoProto(name=name)
        value.type.tensor_type.CopyFrom(self._types[name])
        return value


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Give what a node reads, and what the graphs in it read of the graph around them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                yield from _reads(inner)
