r"""From a photo's bytes to a decision: this toolkit beside the origin's path and what others pick.

    python benchmarks/peers.py --run checkpoints/mobile --bundle bundle --origin origin_bundle \
        --images HAM10000 --split checkpoints/mobile/split.csv \
        --python executorch,ncnn,mnn,openvino=PEERS/bin/python --python onnx2tf=TF/bin/python

The same photos go through all contenders, each in a process of its own; they take turns, a block of
photos each, every other round in the reverse order, after one photo that is not counted. Peers get
the bundle's classifier as a plain timm model: Pillow decodes and resizes, NumPy normalises, and the
tool runs the network as its own documentation says (``peer_models.py``); they remove no hair, tell
nothing before the network has run, and grade nothing. Of the origin's recipe only photos that were
graded count, for the origin's path grades each. The origin's path is OpenCV's black-hat and
Telea, EfficientNet-B3 at 300 and one B2 at 224 in PyTorch. This toolkit's rows are whole bundles.

Ratios are of a round's medians in the same round: their median over the rounds, and their range.
"Ours over it" is of the mobile bundle's fastest row, with all stages; below 1 it is faster.
Agreement is with PyTorch on the same photos: of a peer with the network in eager PyTorch behind the
same preprocessing, of a bundle with its own PyTorch form. A bundle's network is its ``classify``,
with the resize; a peer's has no resize in it. A tool that is in no environment is told of as not
run. Writes ``peers.md``, ``peers.json`` and ``peers.svg`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gemm
import numpy as np
import pandas as pd
import timm
import torch
from matplotlib.figure import Figure
from rich.progress import track
from table import to_markdown
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from classkinfy_export import machine
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.frame import choose, decode
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.network import Network

HERE = Path(__file__).parent
ORIGIN = "origin: OpenCV, PyTorch eager, B3 and B2"
RECIPE = "origin recipe"
PYTORCH = "PyTorch eager"
OF_PEERS = {
    # What is run, what makes its model, where that is, and the distribution that is told of.
    "PyTorch eager": ("torch", None, "network.pt2", "torch"),
    "ONNX Runtime": ("onnxruntime", None, "network.onnx", "onnxruntime"),
    "ONNX Runtime, static int8": (
        *("onnxruntime", "onnxruntime_int8", "onnxruntime_int8.onnx", "onnxruntime"),
    ),
    "litert-torch": ("litert", "litert", "litert.tflite", "litert-torch"),
    "litert-torch, static int8": (
        *("litert", "litert_int8", "litert_int8.tflite", "ai-edge-quantizer"),
    ),
    "onnx2tf": ("litert", "onnx2tf", "onnx2tf.tflite", "onnx2tf"),
    "onnx2tf, static int8": ("litert", "onnx2tf_int8", "onnx2tf_int8.tflite", "onnx2tf"),
    "ExecuTorch, XNNPACK": ("executorch", "executorch", "executorch.pte", "executorch"),
    "ExecuTorch, XNNPACK, static int8": (
        *("executorch", "executorch_int8", "executorch_int8.pte", "executorch"),
    ),
    "ncnn": ("ncnn", "ncnn", "ncnn.param", "ncnn"),
    "MNN": ("mnn", "mnn", "mnn.mnn", "MNN"),
    "MNN, static int8": ("mnn", "mnn_int8", "mnn_int8.mnn", "MNN"),
    "OpenVINO": ("openvino", "openvino", "openvino.xml", "openvino"),
    "OpenVINO, NNCF static int8": (
        *("openvino", "openvino_int8", "openvino_int8.xml", "openvino"),
    ),
}
DPI = 110


@dataclass
class Contender:
    """One way to answer, in its process."""

    name: str
    reference: str
    """Whose labels its own are compared with."""
    process: subprocess.Popen[str]
    version: str = ""
    labels: list[int] = field(default_factory=list)
    rounds: list[pd.DataFrame] = field(default_factory=list)

    def ask(self, photo: Path) -> dict[str, Any]:
        """Have a photo answered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{photo}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ClasskinfyError(f"it stopped at {photo.name}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def block(self, photos: Sequence[Path]) -> None:
        """Answer photos in one go, after one that is not counted."""
        self.ask(photos[0])
        answers = [self.ask(photo) for photo in photos]
        self.labels += [answer["label"] for answer in answers]
        steps = pd.DataFrame([{"total": a["total"], **a["steps"]} for a in answers])
        if self.name.startswith(RECIPE):
            steps = steps[steps.filter(like="grade_").notna().any(axis=1)]
        self.rounds.append(steps)


def start(name: str, reference: str, python: str, given: Mapping[str, Any]) -> Contender:
    """Start a contender, and wait until it has loaded.

    Raises:
        ClasskinfyError: it did not start: the last line that it said.
    """
    with tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(
                [python, str(HERE / "peer_runners.py"), json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        except OSError as error:
            raise ClasskinfyError(f"{Path(python).name}: {error.strerror}") from error
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait()
            said.seek(0)
            raise ClasskinfyError(_last(said.read()))
    return Contender(name, reference, process, json.loads(line)["version"])


def export_plain(network: Network, calibration: Iterable[Path], folder: Path) -> float:
    """Write a network as a user would, without this toolkit; return its multiply-adds.

    Args:
        network: on levels, with a linear head.
        calibration: photos for tools that calibrate.
        folder: gets ``network.pt2``, ``network.onnx``, ``calibration.npy``.
    """
    spec = network.spec
    assert spec.mean == spec.std == (0.5, 0.5, 0.5), "the peers' preprocessing has these"
    plain = timm.create_model(spec.architecture, num_classes=spec.outputs)
    head = {f"classifier.{k.split('.')[-1]}": v for k, v in network.head.state_dict().items()}
    plain.load_state_dict({**network.backbone.state_dict(), **head})
    plain.eval()
    side = spec.input_size
    image = torch.zeros(1, 3, side, side)
    torch.export.save(torch.export.export(plain, (image,)), folder / "network.pt2")
    torch.onnx.export(
        plain,
        (image,),
        folder / "network.onnx",
        dynamo=True,
        external_data=False,
        input_names=["input"],
        verbose=False,
    )
    resized = [_resized(path, side) for path in calibration]
    np.save(folder / "calibration.npy", np.stack(resized))
    return macs(plain, image)


def macs(network: nn.Module, image: torch.Tensor) -> float:
    """Count the multiply-adds of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() / 2


def _resized(path: Path, side: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    from PIL import Image

    image = Image.fromarray(decode(path)).resize((side, side), Image.Resampling.BILINEAR)
    return (np.asarray(image, np.float32) / 127.5 - 1.0).transpose(2, 0, 1)


def make(tool: str, python: str, folder: Path) -> None:
    """Have a tool make its model.

    Raises:
        ClasskinfyError: it cannot: the last line that it said.
    """
    command = [python, str(HERE / "peer_models.py"), tool, str(folder)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClasskinfyError(f"{Path(python).name}: {error.strerror}") from error
    if ran.returncode != 0:
        raise ClasskinfyError(_last(ran.stderr))


def _last(said: str) -> str:
    """Return the last line of what a tool said, of paths only their ends."""
    lines = [line for line in said.splitlines() if line.strip()] or ["no reason given"]
    return re.sub(r"/[^\s'\"]*/", "", lines[-1].strip())


def peers(
    folder: Path, pythons: Mapping[str, str], threads: int, size: int, missing: dict[str, str]
) -> Iterable[Contender]:
    """Start what others make of the network in a folder; ``missing`` gets what is not run."""
    made: dict[str, str] = {}
    for name, (runner, maker, model, package) in OF_PEERS.items():
        python = pythons.get(maker or runner, pythons.get(runner, sys.executable))
        try:
            if maker is not None and not (folder / model).exists():
                if maker in made:
                    raise ClasskinfyError(made[maker])
                make(maker, python, folder)
            if not (folder / model).exists():
                raise ClasskinfyError(f"{maker} made no {model}")
            given = {"kind": "peer", "runner": runner, "model": str(folder / model), "size": size}
            # Where one tool makes what another's runtime runs, the runtime is this environment's.
            where = sys.executable if runner == "litert" else python
            started = start(name, PYTORCH, where, {**given, "threads": threads})
            started.version = _version(python, package)
            yield started
        except ClasskinfyError as error:
            if maker is not None:
                made[maker] = error.message
            missing[name] = error.message


def _version(python: str, package: str) -> str:
    asked = f"import importlib.metadata as m; print(m.version({package!r}))"
    ran = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return f"{package} {ran.stdout.strip()}"


def ours(path: Path, label: str, threads: int, missing: dict[str, str]) -> Iterable[Contender]:
    """Start a bundle in every runtime and precision of an app's, and in PyTorch."""
    bundle = Bundle.open(path)
    held = list(dict.fromkeys((m.format, m.precision) for m in bundle.manifest.models))
    runtimes = {"pytorch": "pytorch", "onnx": "onnxruntime", "litert": "litert"}
    for kind, precision in held:
        name = f"{label}, {runtimes[kind]} {precision}"
        given = {
            **{"kind": "ours", "bundle": str(path), "runtime": runtimes[kind]},
            **{"precision": precision, "form": "staged", "threads": threads},
            "package": "classkinfy-export",
        }
        try:
            yield start(name, f"{label}, pytorch fp32", sys.executable, given)
        except ClasskinfyError as error:
            missing[name] = error.message


def figures(contenders: Sequence[Contender], threads: int) -> list[dict[str, Any]]:
    """Return a row for each contender."""
    by = {contender.name: contender for contender in contenders}
    medians_of = {
        name: np.array([steps["total"].median() for steps in contender.rounds])
        for name, contender in by.items()
        if name.startswith("mobile") and "pytorch" not in name
    }
    rows = []
    for contender in contenders:
        medians = pd.DataFrame([steps.median() for steps in contender.rounds])
        counted = medians["total"].notna().to_numpy()  # rounds in which a photo was graded
        medians = medians[counted]
        base = np.array([steps["total"].median() for steps in by[ORIGIN].rounds])[counted]
        speed = base / medians["total"].to_numpy()
        network = next((k for k in ("network", "classify") if k in medians), None)
        row: dict[str, Any] = {
            "contender": contender.name,
            "version": contender.version,
            "threads": threads,
            "total, ms": float(medians["total"].median()),
            "faster than the origin's path": float(np.median(speed)),
            "of the rounds": (float(speed.min()), float(speed.max())),
        }
        if not _own(contender.name):
            best = min(
                (medians_of[name] / medians["total"].to_numpy() for name in medians_of),
                key=np.median,
            )
            row["ours over it"] = [float(f(best)) for f in (np.median, np.min, np.max)]
        if "screen" in medians:
            less = base / (medians["total"] - medians["screen"]).to_numpy()
            row["faster, less screen"] = float(np.median(less))
        if network is not None:
            row["network, ms"] = float(medians[network].median())
        if contender.reference in by:
            pairs = zip(contender.labels, by[contender.reference].labels, strict=True)
            row["same label, %"] = 100.0 * float(np.mean([a == b for a, b in pairs]))
        row["steps, ms"] = {k: float(v) for k, v in medians.median().items() if k != "total"}
        row["rounds, ms"] = [float(v) for v in medians["total"]]
        rows.append(row)
    return rows


def _own(name: str) -> bool:
    return name.startswith(("mobile", "origin"))


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="of mobile, fp32 and int8")
    parser.add_argument("--run", type=Path, required=True, help="what it was exported from")
    parser.add_argument("--origin", type=Path, help="a bundle of B3 and B2, int8")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--python", action="append", default=[], metavar="TOOL,…=PYTHON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--models", type=Path, help="keeps what tools made, and takes it again")
    given = parser.parse_args()
    pythons = {
        tool: python
        for tools, python in (entry.split("=", 1) for entry in given.python)
        for tool in tools.split(",")
    }
    pythons |= {f"{tool}_int8": python for tool, python in pythons.items()}
    loaded = checkpoint.load(given.run / "classifier.safetensors")
    assert isinstance(loaded.module, Network)
    records = open_dataset(given.images, loaded.info.taxonomy).records
    parts = pd.read_csv(given.split, index_col="image_id")["part"].reindex(records.index)
    of = {part: [Path(p) for p in records.loc[parts == part, "path"]] for part in ("train", "test")}
    photos = choose(of["test"], given.photos)
    photos = photos[: len(photos) // given.rounds * given.rounds]
    missing: dict[str, str] = {}
    folder = given.models or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    multiply_adds = export_plain(loaded.module, choose(of["train"], 128), folder)
    peaks = gemm.peaks()
    size = loaded.info.network.input_size if loaded.info.network else 0
    origin = {"kind": "origin", "threads": given.threads}
    contenders = [start(ORIGIN, "", sys.executable, origin)]
    contenders += ours(given.bundle, "mobile", given.threads, missing)
    if given.origin is not None:
        contenders += ours(given.origin, RECIPE, given.threads, missing)
    contenders += peers(folder, pythons, given.threads, size, missing)
    blocks = [photos[place :: given.rounds] for place in range(given.rounds)]
    for turn, block in enumerate(track(blocks, "rounds")):
        for contender in contenders[:: 1 - 2 * (turn % 2)]:
            if contender.name in missing:
                continue
            try:
                contender.block(block)
            except ClasskinfyError as error:
                missing[contender.name] = error.message
    for contender in contenders:
        contender.process.kill()
    contenders = [contender for contender in contenders if contender.name not in missing]
    write(
        {
            "photos": len(photos),
            "rounds": given.rounds,
            "threads": given.threads,
            "CPU": machine.cpu(),
            "multiply-adds of the network, 1e6": multiply_adds / 1e6,
            "peak, 1e9 multiply-adds a second": peaks,
            "not run": missing,
            "rows": figures(contenders, given.threads),
        },
        HERE / ("peers.json" if given.threads == 1 else f"peers_{given.threads}.json"),
    )


def write(found: dict[str, Any], path: Path) -> None:
    """Write the table and the plot."""
    path.write_text(json.dumps(found, indent=1) + "\n")
    rows = pd.DataFrame(found["rows"])
    draw(rows, path.with_suffix(".svg"))
    hidden = ["threads", "steps, ms", "rounds, ms", "version"]
    shown = rows.drop(columns=hidden).astype(object)
    shown["ours over it"] = [
        f"{v[0]:.2f} ({v[1]:.2f} to {v[2]:.2f})" if isinstance(v, list) else ""
        for v in shown["ours over it"]
    ]
    low_high = shown.pop("of the rounds")
    faster = shown["faster than the origin's path"]
    shown["faster than the origin's path"] = [
        f"{v:.2f}x ({low:.2f} to {high:.2f})"
        for v, (low, high) in zip(faster, low_high, strict=True)
    ]
    for column, places in (
        *(("total, ms", 1), ("network, ms", 1), ("same label, %", 2)),
        *(("faster, less screen", 2),),
    ):
        if column in shown:
            shown[column] = [f"{v:.{places}f}" if pd.notna(v) else "" for v in shown[column]]
    peaks = ", ".join(
        f"{kind} {v:.0f}" for kind, v in found["peak, 1e9 multiply-adds a second"].items()
    )
    versions = ", ".join(v for v in dict.fromkeys(rows["version"]) if v)
    lines = [
        "# From a photo's bytes to a decision, beside others",
        "",
        f"{found['photos']} photos, {found['rounds']} rounds, threads: {found['threads']},",
        f"{found['CPU']}. Read the ratios; milliseconds are this machine's.",
        "",
        *to_markdown(shown),
        "",
        f"The network has {found['multiply-adds of the network, 1e6']:.0f} million multiply-adds.",
        f"One core does at most, measured by a product of matrices, in 1e9 a second: {peaks}.",
        "",
        *(f"- Not run, {name}: {reason}" for name, reason in found["not run"].items()),
        "",
        f"`python benchmarks/peers.py` ({versions}).",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Plot agreement over latency."""
    figure = Figure(figsize=(9, 6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for _, row in rows.dropna(subset=["same label, %"]).iterrows():
        colour = "C0" if _own(row["contender"]) else "C1"
        axes.scatter(row["total, ms"], row["same label, %"], color=colour)
        at = (row["total, ms"], row["same label, %"])
        axes.annotate(row["contender"], at, fontsize=6, rotation=20)
    axes.set(xscale="log", xlabel="from bytes to decision, ms", ylabel="same label as PyTorch, %")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
