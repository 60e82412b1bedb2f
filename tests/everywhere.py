"""One module in every runtime: what tests of exactness compare."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from classkinfy_export.contract import StageSpec
from classkinfy_export.formats.litert import conversion
from classkinfy_export.formats.onnx import graph

Tensors = dict[str, npt.NDArray[np.generic]]
Run = Callable[[npt.NDArray[np.generic]], Tensors]


def export(module: nn.Module, spec: StageSpec) -> dict[str, Run]:
    """Export a module of one input, and give what runs it by the runtime's name."""
    module.eval()
    name = spec.inputs[0].name
    outputs = [tensor.name for tensor in spec.outputs]
    session = onnxruntime.InferenceSession(
        graph.export(module, spec, opset=18).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    flatbuffer = conversion.convert(module, spec)
    runner = Interpreter(model_content=flatbuffer, num_threads=1).get_signature_runner(spec.name)

    def pytorch(image: npt.NDArray[np.generic]) -> Tensors:
        with torch.inference_mode():
            return {key: value.numpy() for key, value in module(torch.from_numpy(image)).items()}

    return {
        "pytorch": pytorch,
        "onnxruntime": lambda image: dict(
            zip(outputs, session.run(outputs, {name: image}), strict=True)
        ),
        "litert": lambda image: runner(**{name: image}),
    }
