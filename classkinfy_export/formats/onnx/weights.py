"""Weights of a stage kept in fewer bits, and brought back to float32 before anything is computed.

::

    fp16                   weight (float16) ─ Cast ──────────────┐
    weight_only_wi8_afp32  weight (int8) ─ Cast ─ Mul by scale ──┴─ Conv, Gemm, MatMul

What reads constants alone a runtime computes once, when it loads the file. ``DequantizeLinear``
would say the second line in one node, but ONNX Runtime leaves it where it is, for a quantised
convolution to take up, and then computes it on every image: EfficientNet-Lite0 took 2.5 times as
long as in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from classkinfy_export.errors import ExportError
from classkinfy_export.formats import float16
from classkinfy_export.precision import Precision

_EXACT = "module.resize."
"""Begins the names of the constants of the resize, which stays exact."""
_LARGEST_CODE = 127


def keep(
    model: onnx.ModelProto, precision: Precision, within: Sequence[str] = ("",)
) -> onnx.ModelProto:
    """Keep the weights of a stage's convolutions and products as a precision says.

    Args:
        model: a stage's graph, all float, which is left as it is.
        precision: ``fp16``, or ``weight_only_wi8_afp32``: symmetric, one scale for each output
            channel, the largest weight of which is 127.
        within: of weights, only those with one of these in their names.

    Returns:
        the graph with the same inputs and outputs, which computes in float32.

    Raises:
        ExportError: the graph has no weights, or one that the precision cannot hold.
    """
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    graph = kept.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    back = []
    for name, axis in _weights(graph, held).items():
        if not any(part in name for part in within):
            continue
        tensors, nodes = _halves(held[name]) if precision == "fp16" else _codes(held[name], axis)
        graph.initializer.remove(held[name])
        graph.initializer.extend(tensors)
        back += nodes
    if not back:
        raise ExportError(
            f"stage {graph.name} has no weights to keep as {precision}",
            hint="leave that precision out of the recipe",
        )
    computed = list(graph.node)
    del graph.node[:]
    graph.node.extend((*back, *computed))
    return kept


def _weights(graph: onnx.GraphProto, held: dict[str, TensorProto]) -> dict[str, int]:
    """Return the axis of output channels of each weight, by its name."""
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        weight = held.get(node.input[1])
        if weight is None or weight.data_type != TensorProto.FLOAT or len(weight.dims) < 2:
            continue
        if weight.name.startswith(_EXACT):
            continue
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        first = node.op_type == "Conv" or transposed
        found.setdefault(weight.name, 0 if first else len(weight.dims) - 1)
    return found


def _halves(weight: TensorProto) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    values = numpy_helper.to_array(weight)
    float16.check(weight.name, values)
    half = f"{weight.name}_half"
    return (
        [numpy_helper.from_array(values.astype(np.float16), half)],
        [helper.make_node("Cast", [half], [weight.name], half, to=TensorProto.FLOAT)],
    )


def _codes(weight: TensorProto, axis: int) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    values = numpy_helper.to_array(weight)
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.abs(values).max(axis=others, keepdims=True) / np.float32(_LARGEST_CODE)
    steps = values / np.where(scale > 0.0, scale, np.float32(1.0))
    codes = np.clip(np.rint(steps), -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)
    code, whole, width = (f"{weight.name}_{part}" for part in ("code", "whole", "scale"))
    return (
        [numpy_helper.from_array(codes, code), numpy_helper.from_array(scale, width)],
        [
            helper.make_node("Cast", [code], [whole], whole, to=TensorProto.FLOAT),
            helper.make_node("Mul", [whole, width], [weight.name], width),
        ],
    )
