"""Which of XNNPACK's kernels is which operator of a LiteRT file.

XNNPACK's profiler tells of each part that it took the kernels in running order, by names of its
own. They follow the operators of that part, but some operators have no kernel: they were fused or
folded. A kernel is told to be an operator's only where every way to lay the two lists beside each
other says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from classkinfy_export.latency.operators.litert_graph import LitertOperator

_KERNELS: dict[str, tuple[str, ...]] = {
    "Abs": ("ABS",),
    "Add": ("ADD",),
    "Average Pooling": ("AVERAGE_POOL_2D",),
    "Bankers Rounding": ("ROUND",),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Ceiling": ("CEIL",),
    "Clamp": ("MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_N1_TO_1"),
    "Constant Pad": ("PAD", "PADV2"),
    "Convert": ("CAST", "DEQUANTIZE", "QUANTIZE"),
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Copy": ("CONCATENATION", "RESHAPE", "PACK"),
    "Divide": ("DIV",),
    "Even Split2": ("SPLIT",),
    "Exp": ("EXP",),
    "Floor": ("FLOOR",),
    "Fully Connected": ("CONV_2D", "FULLY_CONNECTED"),
    "Global Average Pooling": ("MEAN",),
    "HardSwish": ("HARD_SWISH",),
    # Nothing else is looked up in a table in these networks: the swish of int8, in one step.
    "Invalid Unary Op": ("LOGISTIC",),
    "Log": ("LOG",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Maximum": ("MAXIMUM",),
    "Mean": ("MEAN",),
    "Minimum": ("MINIMUM",),
    "Multiply": ("MUL",),
    "Negate": ("NEG",),
    "Reciprocal Square Root": ("RSQRT",),
    "Reduce Max": ("REDUCE_MAX",),
    "Reduce Min": ("REDUCE_MIN",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Sigmoid": ("LOGISTIC",),
    "Slice": ("SLICE", "STRIDED_SLICE"),
    "Softmax": ("SOFTMAX",),
    "Square": ("MUL", "SQUARE"),
    "Square Root": ("SQRT",),
    "Squared Difference": ("SQUARED_DIFFERENCE",),
    "Static Reshape": ("EXPAND_DIMS", "RESHAPE", "SQUEEZE"),
    "Subtract": ("SUB",),
    "Sum": ("SUM",),
    "Tanh": ("TANH",),
    "Transpose": ("TRANSPOSE",),
}
"""Operators by the name of a kernel, up to its layout and dtype."""
_FUSED = ("PAD", "RELU", "RELU6", "RELU_N1_TO_1")
"""Operators that may become a part of the one after or before them."""
_APART = ("ADD", "DIV", "MUL", "SUB")
"""Operators whose activation has a kernel of its own."""


def align(kernels: Sequence[str], operators: Sequence[LitertOperator]) -> list[int | None]:
    """Return the place in ``operators`` of each kernel, None where it is not certain.

    Args:
        kernels: names as XNNPACK gives them, in running order.
        operators: of the part that it took, in running order.
    """
    slots = list(_slots(operators))
    optional = [slot.optional for slot in slots]
    fits = [[slot.kind in _KERNELS.get(_base(name), ()) for slot in slots] for name in kernels]
    forward = _reachable(fits, optional)
    backward = _reachable([row[::-1] for row in fits[::-1]], optional[::-1])
    found: list[int | None] = []
    for k, row in enumerate(fits):
        places = {
            slots[s].place
            for s, fit in enumerate(row)
            if fit and forward[k][s] and backward[len(kernels) - k - 1][len(slots) - s - 1]
        }
        found.append(places.pop() if len(places) == 1 else None)
    return found


def partners(op: LitertOperator, operators: Collection[LitertOperator]) -> list[LitertOperator]:
    """Return the operators that run in one kernel with another, if that kernel takes them.

    Args:
        op: the first of them, ``LOGISTIC`` of a swish or ``MAXIMUM`` of a clamp.
        operators: of the same part.
    """
    return [other for other in operators if _continues(other, op)]


class _Slot(NamedTuple):
    """Where a kernel may be."""

    place: int
    kind: str
    optional: bool


def _slots(operators: Sequence[LitertOperator]) -> Iterator[_Slot]:
    for place, op in enumerate(operators):
        yield _Slot(place, op.kind, op.kind in _FUSED or _second(op, operators))
        if op.activated and op.kind in _APART:
            yield _Slot(place, "RELU", optional=True)


def _second(op: LitertOperator, operators: Sequence[LitertOperator]) -> bool:
    return any(_continues(op, first) for first in operators)


def _continues(op: LitertOperator, first: LitertOperator) -> bool:
    """Whether two operators are a quantised ``x * sigmoid(x)``, or a clamp."""
    if first.outputs[0] not in op.inputs:
        return False
    if (first.kind, op.kind) == ("LOGISTIC", "MUL"):
        return op.dtype == "int8" and first.inputs[0] in op.inputs
    return (first.kind, op.kind) in (("MAXIMUM", "MINIMUM"), ("MINIMUM", "MAXIMUM"))


def _reachable(fits: Sequence[Sequence[bool]], optional: Sequence[bool]) -> list[list[bool]]:
    """Return whether the first k kernels can be in the first s slots, as [k][s]."""
    width = len(optional)
    table = [[True] + [False] * width]
    for s in range(width):
        table[0][s + 1] = table[0][s] and optional[s]
    for row in fits:
        above, line = table[-1], [False] * (width + 1)
        for s in range(width):
            line[s + 1] = (line[s] and optional[s]) or (above[s] and row[s])
        table.append(line)
    return table


def _base(kernel: str) -> str:
    return kernel.partition(" (")[0]
