"""One contender in a process of its own, from a photo's bytes to a decision.

    python benchmarks/peer_runners.py '{"runner": "ncnn", "model": …, "threads": 1, …}'

Reads the path of a photo a line on stdin and answers each with a line of JSON: the label, what the
network gave, and the milliseconds of all and of each step. It runs in an environment of its tool's
own; only ``ours`` imports this toolkit.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
"""float32 [1, 3, s, s], normalised, to logits [1, classes]."""


def torch_eager(model: str, threads: int) -> Run:
    """Run what torch.export kept, as PyTorch runs it."""
    import torch

    torch.set_num_threads(threads)
    network = torch.export.load(model).module()

    def run(values: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(values)).numpy()

    return run


def onnxruntime(model: str, threads: int) -> Run:
    """Run a file in ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]


def litert(model: str, threads: int) -> Run:
    """Run a file in LiteRT, whatever the layout and type of its input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(values: np.ndarray) -> np.ndarray:
        if given["shape"][-1] == 3:
            values = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        if given["dtype"] != np.float32:
            scale, zero = given["quantization"]
            bounds = np.iinfo(given["dtype"])
            codes = np.clip(np.rint(values / scale) + zero, bounds.min, bounds.max)
            values = codes.astype(given["dtype"])
        interpreter.set_tensor(given["index"], values)
        interpreter.invoke()
        found = interpreter.get_tensor(answer["index"])
        if answer["dtype"] == np.float32:
            return found
        scale, zero = answer["quantization"]
        return (found.astype(np.float32) - zero) * scale

    return run


def executorch(model: str, threads: int) -> Run:
    """Run a program in ExecuTorch."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(model).load_method("forward")
    return lambda values: method.execute([torch.from_numpy(values)])[0].numpy()


def ncnn(model: str, threads: int) -> Run:
    """Run a network in ncnn."""
    import ncnn as library

    network = library.Net()
    network.opt.num_threads = threads
    network.load_param(model)
    network.load_model(str(Path(model).with_suffix(".bin")))
    given, answer = network.input_names()[0], network.output_names()[0]

    def run(values: np.ndarray) -> np.ndarray:
        with network.create_extractor() as extractor:
            extractor.input(given, library.Mat(values[0]))
            return np.array(extractor.extract(answer)[1])[np.newaxis]

    return run


def mnn(model: str, threads: int) -> Run:
    """Run a network in MNN."""
    import MNN

    network = MNN.nn.load_module_from_file(
        model, [], [], runtime_manager=MNN.nn.create_runtime_manager(({"numThread": threads},))
    )

    def run(values: np.ndarray) -> np.ndarray:
        given = MNN.expr.convert(
            MNN.expr.const(values, values.shape, MNN.expr.NCHW), MNN.expr.NC4HW4
        )
        return np.array(network.forward(given).read())

    return run


def openvino(model: str, threads: int) -> Run:
    """Run a model in OpenVINO."""
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(model, "CPU", settings)
    return lambda values: compiled(values)[0]


RUNNERS: dict[str, Callable[[str, int], Run]] = {
    **{"torch": torch_eager, "onnxruntime": onnxruntime, "litert": litert},
    **{"executorch": executorch, "ncnn": ncnn, "mnn": mnn, "openvino": openvino},
}
"""By the name of a runtime."""


class Peer:
    """A plain classifier: Pillow decodes and resizes, NumPy normalises, the runtime answers."""

    def __init__(self, runner: str, model: str, threads: int, size: int, **_: object) -> None:
        self.run = RUNNERS[runner](model, threads)
        self.size = size

    def answer(self, photo: bytes) -> tuple[int, dict[str, float]]:
        """Give the label, and how long each step took."""
        from PIL import Image

        start = time.perf_counter()
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        values = (np.asarray(image, np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[np.newaxis]
        values = np.ascontiguousarray(values)
        ready = time.perf_counter()
        logits = self.run(values)
        done = time.perf_counter()
        return int(np.argmax(logits)), {"preprocess": ready - start, "network": done - ready}


class Origin:
    """The origin project's path: OpenCV's black-hat and Telea, then B3 and a B2 in PyTorch."""

    def __init__(self, threads: int, **_: object) -> None:
        import cv2
        import timm
        import torch

        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        # Weights do not change the time.
        self.classifier = timm.create_model("efficientnet_b3", num_classes=7).eval()
        self.grader = timm.create_model("efficientnet_b2", num_classes=3).eval()
        self.mean = np.array((0.485, 0.456, 0.406), np.float32)
        self.std = np.array((0.229, 0.224, 0.225), np.float32)

    def answer(self, photo: bytes) -> tuple[int, dict[str, float]]:
        """Give the label, and how long each step took."""
        import cv2
        import torch

        start = time.perf_counter()
        image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        decoded = time.perf_counter()
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9))
        hat = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, kernel)
        mask = cv2.threshold(hat, 10, 255, cv2.THRESH_BINARY)[1]
        clean = cv2.inpaint(image, mask, 1, cv2.INPAINT_TELEA)
        cleaned = time.perf_counter()
        with torch.inference_mode():
            label = int(self.classifier(self._input(clean, 300)).argmax())
            diagnosed = time.perf_counter()
            self.grader(self._input(clean, 224))
        done = time.perf_counter()
        steps = {"decode": decoded - start, "hair": cleaned - decoded}
        return label, {**steps, "classify": diagnosed - cleaned, "grade": done - diagnosed}

    def _input(self, image: np.ndarray, side: int) -> Any:  # noqa: ANN401  (torch is not everywhere)
        import cv2
        import torch

        small = cv2.resize(image, (side, side)).astype(np.float32) / 255.0
        values = np.ascontiguousarray(((small - self.mean) / self.std).transpose(2, 0, 1))
        return torch.from_numpy(values)[None]


class Ours:
    """This toolkit's bundle, every stage of it."""

    def __init__(
        self, bundle: str, runtime: str, precision: str, form: str, threads: int, **_: object
    ) -> None:
        from classkinfy_export import runtimes
        from classkinfy_export.bundle.reader import Bundle
        from classkinfy_export.runtimes.session import Session

        engine = runtimes.get(runtime).open(
            Bundle.open(bundle), precision=precision, threads=threads
        )
        self.session = Session(engine, form)
        self.classes = engine.bundle.manifest.taxonomy.classes

    def answer(self, photo: bytes) -> tuple[int, dict[str, float]]:
        """Give the label, and how long each stage took."""
        found = self.session.predict(photo)
        label = max(found.probabilities, key=lambda name: found.probabilities[name])
        return self.classes.index(label), {k: v / 1e3 for k, v in found.timings_ms.items()}


KINDS: dict[str, Callable[..., Peer | Origin | Ours]] = {
    "peer": Peer,
    "origin": Origin,
    "ours": Ours,
}


def main() -> None:
    """Answer until stdin ends."""
    given = json.loads(sys.argv[1])
    # What libraries print goes elsewhere: stdout carries answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    contender = KINDS[given["kind"]](**given)
    package = given.get("package")
    version = f"{package} {importlib.metadata.version(package)}" if package else ""
    answers.write(json.dumps({"version": version}) + "\n")
    for line in sys.stdin:
        photo = Path(line.strip()).read_bytes()
        start = time.perf_counter()
        label, steps = contender.answer(photo)
        total = time.perf_counter() - start
        told = {name: 1e3 * seconds for name, seconds in steps.items()}
        answers.write(json.dumps({"label": label, "total": 1e3 * total, "steps": told}) + "\n")


if __name__ == "__main__":
    main()
