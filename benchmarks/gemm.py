"""What one core multiplies at most: large products of matrices, in the kernels of each runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import litert_torch
import numpy as np
import onnx
import torch
from ai_edge_quantizer import recipe
from ai_edge_quantizer.quantizer import Quantizer
from onnx import TensorProto, helper

from classkinfy_export.runtimes.onnxruntime import open_session

_SIDE = 2048
_REPEATS = 5


def peaks() -> dict[str, float]:
    """Measure 1e9 multiply-adds a second on one thread, the best of several products.

    In int8 LiteRT's rounds to int8 again, ONNX Runtime's and PyTorch's give int32.
    """
    torch.set_num_threads(1)
    return {kind: _SIDE**3 / _seconds(run) / 1e9 for kind, run in _products()}


def _seconds(run: Callable[[], object]) -> float:
    run()
    took = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return min(took)


def _products() -> Iterator[tuple[str, Callable[[], object]]]:
    chance = np.random.default_rng(0)
    floats = chance.standard_normal((_SIDE, _SIDE)).astype(np.float32)
    codes = chance.integers(0, 255, (_SIDE, _SIDE)).astype(np.uint8)
    signed = chance.integers(-127, 127, (_SIDE, _SIDE)).astype(np.int8)

    model = _onnx("MatMul", TensorProto.FLOAT, floats, TensorProto.FLOAT, TensorProto.FLOAT)
    session = open_session(model, 1)
    yield "fp32, ONNX Runtime", lambda: session.run(None, {"a": floats})
    model = _onnx("MatMulInteger", TensorProto.UINT8, signed, TensorProto.INT8, TensorProto.INT32)
    coded = open_session(model, 1)
    yield "int8, ONNX Runtime", lambda: coded.run(None, {"a": codes})

    matrix, integers = torch.from_numpy(floats), torch.from_numpy(signed)
    yield "fp32, PyTorch", lambda: torch.mm(matrix, matrix)
    yield "int8, PyTorch", lambda: torch._int_mm(integers, integers)

    made = litert_torch.convert(torch.nn.Linear(_SIDE, _SIDE, bias=False).eval(), (matrix,))
    flat = bytes(made.model_content())
    yield "fp32, XNNPACK", _interpreter(flat, floats)
    quantizer = Quantizer(flat, recipe.static_wi8_ai8())
    seen = quantizer.calibrate({"serving_default": [{"args_0": floats}]})
    quantised = quantizer.quantize(seen).quantized_model
    assert quantised is not None
    yield "int8, XNNPACK", _interpreter(bytes(quantised), signed)


def _onnx(operator: str, left: int, right: np.ndarray[Any, Any], kind: int, out: int) -> bytes:
    shape = (_SIDE, _SIDE)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", left, shape)],
        [helper.make_tensor_value_info("c", out, shape)],
        [helper.make_tensor("b", kind, shape, right.tobytes(), raw=True)],
    )
    opset = [helper.make_opsetid("", 18)]
    return onnx.ModelProto.SerializeToString(
        helper.make_model(graph, opset_imports=opset, ir_version=9)
    )


def _interpreter(flat: bytes, values: np.ndarray[Any, Any]) -> Callable[[], None]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flat, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)

    def run() -> None:
        interpreter.invoke()

    return run
