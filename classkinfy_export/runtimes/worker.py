"""Runs models for another process, which asks over its standard input: a program of its own.

For runtimes that cannot live in the process that asks: libraries that clash with torch's, and
another machine's kernels under an emulator. It needs numpy and one runtime library, and nothing of
this package, for an emulated Python has no more.

A message is a line of JSON and then the bytes of the arrays that it lists, in order. Questions::

    {"open": KEY, "size": BYTES}                                     and the model
    {"run": KEY, "entry": SIGNATURE, "arrays": [{name, dtype, shape}], "outputs": [NAME]}

A run with ``"mark": true`` has getppid called just before and after it: ``instructions.c`` counts
between the two. Answers are ``{"arrays": [...]}``, or ``{"error": "..."}``. It ends with its
standard input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

Run = Callable[[str, "dict[str, Any]", "list[str]"], "list[Any]"]
"""From an entry, inputs and the names of outputs, to the outputs."""


def write(stream: BinaryIO, head: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write a message: a line of JSON, then the arrays' bytes."""
    listed = [
        {"name": name, "dtype": str(value.dtype), "shape": list(value.shape)}
        for name, value in arrays.items()
    ]
    stream.write(json.dumps({**head, "arrays": listed}).encode() + b"\n")
    for value in arrays.values():
        stream.write(np.ascontiguousarray(value).tobytes())
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a message. Raises EOFError at the stream's end."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    arrays = {}
    for entry in head["arrays"]:
        empty = np.empty(entry["shape"], entry["dtype"])
        data = stream.read(empty.nbytes)
        if len(data) < empty.nbytes:
            raise EOFError
        arrays[entry["name"]] = np.frombuffer(data, empty.dtype).reshape(empty.shape)
    return head, arrays


def tensorflow(model: bytes, threads: int) -> Run:
    """Open a model in TensorFlow's own TFLite."""
    # Its LLVM and that of torch's triton do not live in one process.
    sys.modules["torch"] = None  # type: ignore[assignment]
    import tensorflow as tf

    return _signatures(tf.lite.Interpreter(model_content=model, num_threads=threads))


def litert(model: bytes, threads: int) -> Run:
    """Open a model in LiteRT, with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    return _signatures(Interpreter(model_content=model, num_threads=threads))


def onnxruntime(model: bytes, threads: int) -> Run:
    """Open a model in ONNX Runtime; it has one entry."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(entry: str, inputs: dict[str, Any], outputs: list[str]) -> list[Any]:
        return list(session.run(outputs, inputs))

    return run


def _signatures(interpreter: Any) -> Run:  # noqa: ANN401
    runners: dict[str, Any] = {}

    def run(entry: str, inputs: dict[str, Any], outputs: list[str]) -> list[Any]:
        if entry not in runners:
            runners[entry] = interpreter.get_signature_runner(entry)
        given = runners[entry](**inputs)
        return [given[name] for name in outputs]

    return run


KINDS = {"litert": litert, "onnxruntime": onnxruntime, "tensorflow": tensorflow}


def main(kind: str, threads: int) -> None:
    """Answer until the standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    models: dict[str, Run] = {}
    while True:
        try:
            head, arrays = read(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if "open" in head:
                models[head["open"]] = KINDS[kind](arrays["model"].tobytes(), threads)
                given = {}
            else:
                mark = os.getppid if head.get("mark") else int
                mark()
                values = models[head["run"]](head["entry"], arrays, head["outputs"])
                mark()
                given = dict(zip(head["outputs"], values, strict=True))
        except Exception as error:  # said where it was asked
            write(answers, {"error": f"{type(error).__name__}: {error}"}, {})
        else:
            write(answers, {}, given)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
