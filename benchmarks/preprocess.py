"""Preprocessing in the graph against OpenCV: mask and fill, resize, screen, on one thread.

    python benchmarks/preprocess.py --images HAM10000 --limit 200

Contestants take turns on every image, several rounds. In its turn each runs the image twice and the
second run counts, so that none pays for the caches that another has emptied. An image's time is the
median of its rounds. How much of what is left between the median image and the worst is the
machine's is told by a control: the first image, measured again beside every other. Read the ratios:
milliseconds mean nothing elsewhere. Beside time, bytes: how many images give other bytes than
PyTorch. OpenCV has no ``screen``; its time is set against OpenCV's for mask and fill.
Writes ``preprocess.md``, ``preprocess.json`` and ``preprocess.svg`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor, nn

from classkinfy_export.contract import (
    BRIGHT_LEVEL,
    DARK_LEVEL,
    Capture,
    StageSpec,
    TensorSpec,
    WorkingSize,
    prepare_spec,
    screen_spec,
)
from classkinfy_export.formats.litert import conversion
from classkinfy_export.formats.onnx import graph
from classkinfy_export.frame import frame, list_images
from classkinfy_export.imaging.layout import to_images
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.prepare import HAIR_THRESHOLD, HAIR_WINDOW, Prepare
from classkinfy_export.stages.screen import Profiles, Screen
from classkinfy_export.taxonomy import Taxonomy

Pixels = npt.NDArray[np.uint8]
Step = Callable[[Pixels], Pixels]

CAPTURE, SIZE = Capture(height=450, width=600), WorkingSize(height=450, width=600)
SIDE = 224
ROUNDS = 5
OPENCV = "OpenCV"
CLEAN, CONTROL = "mask + fill", "mask + fill, the first image each time"
SCREEN = "screen, against mask + fill"
PACKAGES = ("opencv-python-headless", "torch", "onnxruntime", "ai-edge-litert", "litert-torch")


class Clean(nn.Module):
    """Mask and fill alone: what is not asked for is not in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare = Prepare()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"clean": self.prepare(image)["clean"]}


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resize = Resize(CAPTURE.as_tuple(), (SIDE, SIDE))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"levels": self.resize(to_images(image))}


def opencv_clean(image: Pixels) -> Pixels:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    kernel = np.ones((HAIR_WINDOW, HAIR_WINDOW), np.uint8)
    hat = cv2.morphologyEx(luma, cv2.MORPH_BLACKHAT, kernel)
    _, hair = cv2.threshold(hat, HAIR_THRESHOLD, 255, cv2.THRESH_BINARY)
    return np.asarray(cv2.inpaint(image, hair, 1, cv2.INPAINT_TELEA), np.uint8)


def opencv_prepare(image: Pixels) -> Pixels:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cv2.Laplacian(luma, cv2.CV_32F, ksize=1).var()
    np.count_nonzero(luma < DARK_LEVEL)
    np.count_nonzero(luma > BRIGHT_LEVEL)
    return opencv_clean(image)


def opencv_resize(image: Pixels) -> Pixels:
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def in_pytorch(module: nn.Module, output: str) -> Step:
    def step(image: Pixels) -> Pixels:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(image)[None])[output].numpy())

    return step


def in_onnxruntime(module: nn.Module, spec: StageSpec, output: str) -> Step:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.export(module, spec, opset=18).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    names, source = [tensor.name for tensor in spec.outputs], spec.inputs[0].name
    chosen = names.index(output)
    return lambda image: np.asarray(session.run(names, {source: image[None]})[chosen])


def in_litert(module: nn.Module, spec: StageSpec, output: str) -> Step:
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(conversion.convert(module, spec))
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        runner = interpreter.get_signature_runner(spec.name)
    source = spec.inputs[0].name
    return lambda image: np.asarray(runner(**{source: image[None]})[output])


def works() -> dict[str, dict[str, Step]]:
    """Return, by work, each contestant's step; the first is the baseline."""
    whole = prepare_spec(CAPTURE, SIZE)
    cleaned = whole.model_copy(update={"name": "clean", "outputs": whole.outputs[:1]})
    levels = TensorSpec(
        name="levels",
        dtype="float32",
        shape=(1, 3, SIDE, SIDE),
        unit="level",
    )
    resized = whole.model_copy(update={"name": "resize", "outputs": (levels,)})
    screen = Screen(Profiles(len(Taxonomy().classes))).requires_grad_(False)
    screened = screen_spec(SIZE, Taxonomy())
    contests: dict[str, tuple[Step, nn.Module, StageSpec, str]] = {
        CLEAN: (opencv_clean, Clean(), cleaned, "clean"),
        "prepare (with quality)": (opencv_prepare, Prepare(), whole, "clean"),
        f"resize to {SIDE}": (opencv_resize, Resized(), resized, "levels"),
        SCREEN: (opencv_clean, screen, screened, "lesion_mask"),
    }
    steps = {}
    for work, (baseline, module, spec, output) in contests.items():
        steps[work] = {
            OPENCV: baseline,
            "PyTorch": in_pytorch(module.eval(), output),
            "ONNX Runtime": in_onnxruntime(module.eval(), spec, output),
            "LiteRT": in_litert(module.eval(), spec, output),
        }
    steps[CONTROL] = steps[CLEAN]
    return steps


def timed(step: Step, image: Pixels) -> tuple[float, Pixels]:
    step(image)
    start = time.perf_counter()
    given = step(image)
    return (time.perf_counter() - start) * 1e3, given


def measure(images: list[Path]) -> pd.DataFrame:
    """Return a row for each image, work and contestant: ``ms``, and ``differs`` from PyTorch."""
    rows = []
    contests = works()
    first = frame(images[0], CAPTURE)[0]
    for path in track(images, description="measuring"):
        framed = frame(path, CAPTURE)[0]
        for work, steps in contests.items():
            image = first if work == CONTROL else framed
            rounds = [
                {name: timed(step, image) for name, step in steps.items()} for _ in range(ROUNDS)
            ]
            reference = rounds[0]["PyTorch"][1].ravel()
            for name, (_, pixels) in rounds[0].items():
                ms = float(np.median([given[name][0] for given in rounds]))
                differs = not np.array_equal(pixels.ravel(), reference)
                rows.append((path.name, work, name, ms, differs))
    return pd.DataFrame(rows, columns=["image", "work", "contestant", "ms", "differs"])


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each work and contestant, with ratios to OpenCV's median."""
    grouped = rows.groupby(["work", "contestant"], sort=False)
    table = grouped["ms"].quantile([0.5, 0.9, 1.0]).unstack()
    table.columns = ["median_ms", "p90_ms", "worst_ms"]
    table["differs"] = grouped["differs"].sum()
    baseline = table["median_ms"].xs(OPENCV, level="contestant")
    table["ratio"] = table["median_ms"] / baseline.reindex(table.index, level="work")
    table["worst_ratio"] = table["worst_ms"] / baseline.reindex(table.index, level="work")
    return table


def plot(rows: pd.DataFrame, target: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "classkinfy"
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    works = list(dict.fromkeys(rows["work"]))
    for axes, work in zip(figure.subplots(1, len(works), squeeze=False)[0], works, strict=True):
        chosen = rows[rows["work"] == work]
        names = list(dict.fromkeys(chosen["contestant"]))
        times = [chosen.loc[chosen["contestant"] == name, "ms"] for name in names]
        axes.boxplot(times, whis=(1, 99), tick_labels=names, flierprops={"markersize": 2})
        axes.set_yscale("log")
        axes.set_title(work.replace(", ", ",\n"), fontsize=9)
        axes.tick_params(axis="x", rotation=60, labelsize=8)
        axes.set_ylabel("ms, one thread")
    figure.savefig(target, format="svg", metadata={"Date": None})


def write(rows: pd.DataFrame, command: str, folder: Path) -> None:
    table = summarise(rows)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    count = rows["image"].nunique()
    lines = [
        "# Preprocessing in the graph against OpenCV",
        "",
        f"`{command}`, {count} images, one thread, {platform.machine()}; {versions}.",
        f"Each image's time is the median of {ROUNDS} rounds; ratios are to OpenCV's median image",
        "in the same run. `differs`: images whose bytes are not PyTorch's; OpenCV fills by Telea",
        "and resizes by area, so its answers are its own. It has no screen; there it masks, fills.",
        "The first image, timed again beside each other, shows how far the machine alone strays.",
        "",
        "| work | contestant | median ms | p90 ms | worst ms | ratio | worst ratio "
        "| worst of own median | differs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (work, name), row in table.iterrows():  # type: ignore[misc]
        lines.append(
            f"| {work} | {name} | {row.median_ms:.2f} | {row.p90_ms:.2f} | {row.worst_ms:.2f} "
            f"| {row.ratio:.2f}x | {row.worst_ratio:.2f}x | {row.worst_ms / row.median_ms:.2f}x "
            f"| {int(row.differs)} |"
        )
    lines += ["", "![Time of each step](preprocess.svg)", ""]
    (folder / "preprocess.md").write_text("\n".join(lines))
    report = {"command": command, "images": count, "versions": versions}
    report["rows"] = table.reset_index().to_dict(orient="records")
    (folder / "preprocess.json").write_text(json.dumps(report, indent=1) + "\n")
    plot(rows, folder / "preprocess.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--limit", type=int, default=200, help="the first so many")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    images = list_images(arguments.images)[: arguments.limit]
    rows = measure(images)
    command = (
        f"python benchmarks/preprocess.py --images {arguments.images.name} --limit {len(images)}"
    )
    write(rows, command, arguments.out)
    print(summarise(rows).round(2).to_string())


if __name__ == "__main__":
    main()
