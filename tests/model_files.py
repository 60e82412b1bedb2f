"""What of a bundle's model files tests look into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

CONVOLUTIONS = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)


def graph(folder: Path, name: str) -> onnx.GraphProto:
    return onnx.load(folder / "models" / "onnx" / f"{name}.onnx").graph


def arrays(found: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in found.initializer}
