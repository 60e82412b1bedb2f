"""Which module each node of ONNX Runtime's optimised graph computes for.

A file names weights after their modules. ONNX Runtime fuses nodes, changes layouts and renames
weights as it goes, but calls what it made after a node or a tensor of the file::

    file        Conv node_conv2d_4 ─ conv2d_4 ─ Clip node_hardtanh_4 ─ hardtanh_4
    optimised   Conv hardtanh_4_nchwc
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from classkinfy_export.latency.operators import modules

if TYPE_CHECKING:
    import onnx

_ADDED = re.compile(r"(_token_\d+|_nchwc|/\w+/)$")
"""What the optimiser appends to the name of a node that it makes of another."""
_FUSED = re.compile(r"^fused ")
_VARIANT = re.compile(r"^(QLinear|Fused)")
"""Of an operator's name, what tells a variant of it."""
_WEIGHTED = ("Conv", "Gemm", "MatMul")


def placed(original: bytes, optimised: Path) -> dict[str, str]:
    """Return modules by the names of the optimised graph's nodes.

    Args:
        original: the ONNX file.
        optimised: what ONNX Runtime wrote of it.

    Returns:
        paths as LiteRT's files have them: without the stage's own ``network``, and in the fused
        graph after the stage, ``classify.backbone.conv_stem``. What is not known is not in it.
    """
    import onnx

    source = _Source(onnx.load_from_string(original).graph)
    nodes = list(_nodes(onnx.load(optimised, load_external_data=False).graph))
    known = {node.name: owner for node in nodes if (owner := source.owner(node.name, node.op_type))}
    return modules.place({n.name: (n.input, n.output) for n in nodes}, known)


class _Source:
    """The graph as the file has it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        nodes = list(_nodes(graph))
        self._by_name = {node.name: node for node in nodes}
        self._makers = {name: node for node in nodes for name in node.output}
        self._constants = {t.name for g in _graphs(graph) for t in g.initializer}
        for node in nodes:  # a quantised weight is brought back by nodes that read constants alone
            if node.input and self._constants.issuperset(name for name in node.input if name):
                self._constants.update(node.output)
        computed = [node for node in nodes if self._constants.isdisjoint(node.output)]
        self._weights = {node.name: frozenset(self._read(node)) for node in computed}
        readers: dict[str, int] = {}
        for weights in self._weights.values():
            for name in weights:
                readers[name] = readers.get(name, 0) + 1
        # Equal constants are stored once, after the first module that has them.
        self._shared = {name for name, count in readers.items() if count > 1}

    def owner(self, name: str, kind: str) -> str | None:
        """Return the module whose weights a node of the optimised graph computes with."""
        node = self._find(name)
        kind = _VARIANT.sub("", kind)
        while node is not None and node.op_type != kind and kind in _WEIGHTED:
            read = [n for n in node.input if n and n not in self._constants]
            node = self._makers.get(read[0]) if len(read) == 1 else None
        if node is None:
            return None
        owners = {
            _module(name) for name in self._weights.get(node.name, frozenset()) - self._shared
        }
        return owners.pop() if len(owners) == 1 else None

    def _find(self, name: str) -> onnx.NodeProto | None:
        """Return the node that another was made of; of a tensor's name, the one that gives it."""
        name = _FUSED.sub("", name)
        while name not in self._by_name and name not in self._makers:
            shorter = _ADDED.sub("", name)
            if shorter == name:
                return None
            name = shorter
        return self._by_name.get(name) or self._makers[name]

    def _read(self, node: onnx.NodeProto) -> Iterator[str]:
        """Give the named weights that a node reads, as they are or brought back."""
        for name in node.input:
            if name in self._makers and name in self._constants:
                yield from self._read(self._makers[name])
            elif name.rpartition("/")[2].startswith("module."):
                yield name


def _module(weight: str) -> str:
    stage, _, name = weight.rpartition("/")
    path = name.removeprefix("module.").removeprefix("network.").rpartition(".")[0]
    return ".".join(part for part in (stage, path) if part)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for part in _graphs(graph):
        yield from part.node
