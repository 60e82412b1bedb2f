"""Tensors inside a graph, as ONNX Runtime computes them without its optimizer.

So int8 is float arithmetic between QuantizeLinear and DequantizeLinear. The int8 kernels of a CPU
without VNNI saturate, and what they add must not get into a file that other CPUs run.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

_ERRORS = 3


def watch(model: onnx.ModelProto, tensors: Sequence[str]) -> InferenceSession:
    """Open a graph that gives some of its tensors, too.

    Args:
        model: left as it is.
        tensors: float32, by name.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {output.name for output in model.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in tensors
        if name not in given
    )
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _ERRORS
    return InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
