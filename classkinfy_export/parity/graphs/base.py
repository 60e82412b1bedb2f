"""What a graph of any format is: operators in running order, and parts cut out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

PART = "part"
"""What a part that was cut out is called, as a stage and as an entry."""
COMPARED = ("float32", "uint8", "int32")
"""Dtypes that are compared, and handed in: what the contract's tensors have."""

MOVING = frozenset(
    {
        *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice"),
        *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
        *("BROADCAST_TO", "CAST", "CONCATENATION", "EXPAND_DIMS", "GATHER", "MIRROR_PAD", "PACK"),
        *("PAD", "PADV2", "RESHAPE", "SLICE", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TILE"),
        *("TRANSPOSE", "UNPACK"),
    }
)
"""Operators of either format that compute nothing: values are moved, repeated or left out."""


@dataclass(frozen=True)
class Operator:
    """One operator of a graph."""

    index: int
    """Its place in the file."""
    kind: str
    """As its format calls it: ``Conv``, ``CONV_2D``."""
    inputs: tuple[str, ...]
    """The tensors that it computes with; weights and constants are none."""
    outputs: tuple[str, ...]


class Graph(ABC):
    """The graph of one stage in one file.

    Tensors have names that are the graph's own; those of the stage's inputs and outputs are the
    contract's.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """Those that are computed: a converter may have found that one is always the same."""

    @abstractmethod
    def dtype(self, tensor: str) -> str:
        """Return a tensor's dtype as numpy calls it; empty where it is not known."""

    @abstractmethod
    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return a tensor's shape."""

    @abstractmethod
    def cut(self, given: Sequence[str], wanted: Sequence[str]) -> bytes:
        """Return a model that computes some tensors from others.

        Args:
            given: tensors that become its inputs, by name; what would have computed them is left
                out. The stage's inputs, where they are needed, must be among them.
            wanted: tensors that become its outputs, by name; none of them is given.
        """

    def __init__(self) -> None:
        self.producer = {name: op for op in self.operators for name in op.outputs}
        """Which operator gives a tensor; none gives the stage's inputs."""
        self.outputs = tuple(name for name in self.outputs if name in self.producer)

    @property
    def compared(self) -> list[str]:
        """The computed tensors that can be compared, in running order."""
        return [n for op in self.operators for n in op.outputs if self.dtype(n) in COMPARED]

    def after(self, tensor: str) -> list[str]:
        """Return what is computed with a tensor and can be compared, in running order."""
        reached = {tensor}
        found = []
        for op in self.operators:
            if reached.intersection(op.inputs):
                reached.update(op.outputs)
                found += [name for name in op.outputs if self.dtype(name) in COMPARED]
        return found

    def needed(self, given: Collection[str], wanted: Collection[str]) -> list[Operator]:
        """Return the operators on the way from given tensors to wanted ones, in running order."""
        used: set[str] = set(wanted)
        chosen = []
        for op in reversed(self.operators):
            if used.intersection(op.outputs):
                chosen.append(op)
                used.update(name for name in op.inputs if name not in given)
        return chosen[::-1]

    def boundary(self, known: Collection[str], tensor: str) -> list[str]:
        """Return the known tensors, or inputs of the stage, that a tensor is computed of.

        Args:
            known: where to stop; ``tensor`` itself is looked behind.
            tensor: one that is computed.
        """
        found: dict[str, None] = {}
        waiting, seen = [tensor], {tensor}
        while waiting:
            for name in self.producer[waiting.pop()].inputs:
                if name in known or name not in self.producer:
                    found[name] = None
                elif name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return list(found)
