"""A signature of a LiteRT file as its interpreter runs it: operators, their modules, the parts."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from classkinfy_export.bundle import parsing
from classkinfy_export.errors import BundleError
from classkinfy_export.latency.operators import modules

_SCOPE = re.compile(r"^[\w.]*?(?P<class>_*[A-Za-z0-9]+)_(?P<name>\w+)$")
"""One step of a tensor's name: a module's class with its path, and what its parent calls it."""
_STAGE = re.compile(r"^[\w.]+\.[A-Z_]\w*$")
"""The first step: the class of the stage."""
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_OWNER = re.compile(r"^(Conv\dd\w*|Linear)$")
"""Classes of the modules that have their weights."""


@dataclass(frozen=True)
class LitertOperator:
    """One operator of the file."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    """Tensors, but for constants and those that are left out."""
    outputs: tuple[int, ...]
    name: str
    """Of the first tensor that it gives, as are dtype and shape."""
    dtype: str
    shape: tuple[int, ...]
    activated: bool
    """Whether an activation is a part of it."""

    @property
    def module(self) -> str | None:
        """Path of the module that the tensor's name tells of; None where it tells of none.

        A name that was made of several, of what was fused, tells of each: the module that has the
        weights is taken, or the innermost that holds them all.
        """
        scopes = [segment.split("/") for segment in self.name.split(";")]
        scopes = [steps for steps in scopes if _STAGE.match(steps[0])]
        if not scopes:
            return None
        owners = {_path(steps) for steps in scopes if _OWNER.match(_class(steps[-1]))}
        if self.kind in _WEIGHTED and len(owners) == 1:
            return owners.pop()
        return modules.common(*map(_path, scopes))


@dataclass(frozen=True)
class Part:
    """Operators that run one after the other, all by XNNPACK or none."""

    delegated: bool
    operators: tuple[LitertOperator, ...]


class SignatureGraph:
    """The operators behind one signature.

    Args:
        data: the file.
        entry: the signature.
    """

    def __init__(self, data: bytes, entry: str) -> None:
        schema = importlib.import_module("ai_edge_litert.schema_py_generated")
        model = parsing.litert(data)
        signature = next(s for s in model.signatureDefs if s.signatureKey.decode() == entry)
        graph = model.subgraphs[signature.subgraphIndex]
        self._kinds = _by_value(schema.BuiltinOperator)
        self._dtypes = _by_value(schema.TensorType)
        constants = {i for i, t in enumerate(graph.tensors) if _held(model.buffers[t.buffer])}
        self.operators = tuple(
            self._operator(index, op, model, graph, constants)
            for index, op in enumerate(graph.operators)
        )

    def parts(self, kept: Collection[int]) -> list[Part]:
        """Return the parts in which the interpreter runs the operators.

        As TensorFlow Lite does (``PartitionGraphIntoIndependentNodeSubsets`` in
        ``graph_info.cc``): of the operators whose inputs are there, it takes the first and all of
        its kind, with or without delegate, until there is none; and so on.

        Args:
            kept: places of the operators that XNNPACK did not take.

        Raises:
            BundleError: operators wait for one another.
        """
        made = {tensor for op in self.operators for tensor in op.outputs}
        waiting, parts = {op.index: op for op in self.operators}, []
        while waiting:
            part: list[LitertOperator] = []
            size = -1
            while size < len(part):
                size = len(part)
                for index, op in list(waiting.items()):
                    same = not part or (index in kept) == (part[0].index in kept)
                    if same and made.isdisjoint(op.inputs):
                        part.append(waiting.pop(index))
                        made.difference_update(op.outputs)
            if not part:
                raise BundleError(
                    "operators of the LiteRT file wait for one another",
                    hint="export the bundle again",
                )
            parts.append(Part(part[0].index not in kept, tuple(part)))
        return parts

    def placed(self) -> dict[int, str]:
        """Return the modules of the operators, by their place, where they can be told."""
        known = {str(op.index): op.module for op in self.operators if op.module is not None}
        flow = {
            str(op.index): (list(map(str, op.inputs)), list(map(str, op.outputs)))
            for op in self.operators
        }
        return {int(index): path for index, path in modules.place(flow, known).items()}

    def _operator(
        self,
        index: int,
        op: Any,  # noqa: ANN401  (generated, untyped)
        model: Any,  # noqa: ANN401
        graph: Any,  # noqa: ANN401
        constants: Collection[int],
    ) -> LitertOperator:
        code = model.operatorCodes[op.opcodeIndex]
        given = graph.tensors[op.outputs[0]]
        return LitertOperator(
            index=index,
            kind=self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)],
            inputs=tuple(int(i) for i in op.inputs if i != -1 and int(i) not in constants),
            outputs=tuple(int(i) for i in op.outputs),
            name=given.name.decode(),
            dtype=self._dtypes[given.type].lower(),
            shape=() if given.shape is None else tuple(int(n) for n in given.shape),
            activated=bool(getattr(op.builtinOptions, "fusedActivationFunction", 0)),
        )


def _path(steps: list[str]) -> str:
    """Return a module's path: ``backbone.conv_stem`` of ``stages.Classify/E_backbone/C_conv_stem``.

    The first step is the stage, which nobody calls by a name.
    """
    return ".".join(_names(steps[1:]))


def _names(steps: list[str]) -> Iterator[str]:
    for step in steps:
        match = _SCOPE.match(step)
        if match is None:
            return
        yield match["name"]


def _class(step: str) -> str:
    match = _SCOPE.match(step)
    return "" if match is None else match["class"]


def _held(buffer: Any) -> bool:  # noqa: ANN401
    """Whether a buffer is in the file, and its tensor a constant."""
    return bool(buffer.size) or (buffer.data is not None and len(buffer.data) > 0)


def _by_value(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
