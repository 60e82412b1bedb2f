r"""int8 of networks alone: this toolkit's beside what the stock tools make of them.

    python benchmarks/quantization.py --run checkpoints/mobile export/mobile.yaml \
        --run checkpoints/b_family export/b_family.yaml \
        --images HAM10000 --split checkpoints/mobile/split.csv --arm64

Each network is taken by itself, from resized levels to logits, in every precision that is compared,
all calibrated on the same photos of the training part, in one shuffled order: some tools' ranges
hang on it. With ``--set qat.epochs=4`` networks are trained for int8 too, and measured both ways.
Photos of the split's test part go through ``prepare``, ``screen`` and the resize once, and through
all models of a network one after the other, each on one thread, so that a noisy moment is all of
theirs; a clock runs while a model does. SQNR is of logits, means taken off, and KL of
their softmax, beside fp32 in the same runtime. A classifier's labels and changes are the
pipeline's, the screen's answer pooled in; intervals are of the paired difference, by bootstrap over
lesions. Weights alone, as halves and int8, are in ``precisions.md`` for LiteRT.

With --arm64 instructions are counted on an emulated Cortex-A76 (``classkinfy doctor --install
arm64``). NNCF takes part where it is installed (``pip install nncf``). A classifier's checkpoint
does for a run whose graders are not wanted. Writes ``quantization.md``, ``quantization.json`` and
``quantization.svg`` beside this file after each network; those that are not measured now keep their
rows.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from ai_edge_litert.interpreter import Interpreter
from contenders import OURS, Floats, Name, Subject, models
from matplotlib.figure import Figure
from rich.progress import track
from scipy.special import log_softmax
from table import to_markdown
from torch import Tensor, nn

from classkinfy_export import machine, recipes, runtimes
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.evaluation import paired
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.frame import choose
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.latency.instructions import count_model
from classkinfy_export.quantization.calibration import CalibrationSet
from classkinfy_export.quantization.photos import Photos
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.arm64 import Arm64Runtime
from classkinfy_export.runtimes.onnxruntime import open_session
from classkinfy_export.stages.assembly import Assembly
from classkinfy_export.stages.classify import Classify, pooled
from classkinfy_export.taxonomy import Taxonomy

PLACES = {
    **{"SQNR, dB": 1, "mean KL": 4, "same label, %": 2, "mean Δp": 4},
    **{"size": 3, "time": 2, "A76 instructions": 3},
}
"""Decimals, by column."""
PACKAGES = ("onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "nncf", "torch", "timm")


def subjects(
    sources: Sources, recipe: ExportRecipe, given: argparse.Namespace
) -> Iterator[Subject]:
    """Take the networks of a run, and photos through its own stages."""
    recipe = sources.settled(recipe)
    assembly = sources.assemble(recipe)
    photos = sources.photos(recipe, given.images, given.split)
    assert photos is not None
    untrained = recipe.model_copy(update={"qat": None})
    prepared = export.prepare(photos, assembly, untrained, lambda what, done, total: None)
    trained = None
    if recipe.qat is not None:
        trained = export.prepare(photos, assembly, recipe, lambda what, done, total: None)
    tested = CalibrationSet(Photos(tuple(map(Path, given.photos)), 0), assembly, recipe)
    for stage in assembly.networks():
        if given.only and stage not in given.only:
            continue
        module, rounded = (a.modules[stage] for a in (assembly, prepared.assembly))
        levels = [
            [module.resized(torch.from_numpy(feed["clean"])).numpy() for feed in of.feeds(spec)]
            for spec in (assembly.specs[stage],)
            for of in (prepared.calibration, tested)
        ]
        order = np.random.default_rng(0).permutation(len(levels[0]))
        yield Subject(
            stage=stage,
            network=module.network,
            rounded=rounded.network,
            trained=trained and trained.assembly.modules[stage].network,
            pixels=prepared.pixels[stage],
            blocks={name: recipe.blocks_in_float(stage, name) for name in ("onnx", "litert")},
            calibration=[levels[0][place] for place in order],
            levels=levels[1],
            decide=partial(_decide, _screened(assembly, stage, tested), module),
        )


def _screened(assembly: Assembly, stage: str, photos: CalibrationSet) -> Tensor | None:
    if not any(tensor.name == "preliminary" for tensor in assembly.specs[stage].inputs):
        return None
    feeds = photos.feeds(assembly.specs[stage])
    return torch.from_numpy(np.concatenate([feed["preliminary"] for feed in feeds]))


def _decide(preliminary: Tensor | None, module: nn.Module, logits: Floats) -> Floats:
    found = torch.from_numpy(logits)
    if preliminary is not None:
        assert isinstance(module, Classify)
        assert module.screen_weight is not None
        found = pooled(found, preliminary, module.screen_weight)
    probabilities: Floats = torch.softmax(found.double(), dim=1).numpy()
    return probabilities


class Runner:
    """A model, opened on one thread."""

    def __init__(self, name: Name, model: bytes) -> None:
        self.given: Mapping[str, Any] = {"dtype": np.float32}
        self.wanted: Mapping[str, Any] = {"dtype": np.float32}
        if name.runtime == "onnxruntime":
            session = open_session(model, threads=1)
            self.run = lambda values: session.run(["logits"], {"levels": values})[0]
            return
        with quiet():
            interpreter = Interpreter(model_content=model, num_threads=1)
        invoke = interpreter.get_signature_runner()
        ((key, self.given),) = invoke.get_input_details().items()
        ((answer, self.wanted),) = invoke.get_output_details().items()
        self.run = lambda values: invoke(**{key: values})[answer]

    def timed(self, levels: Floats) -> tuple[Floats, float]:
        """Give the logits, and how long the model took, in seconds."""
        values = _coded(levels, self.given)
        start = time.perf_counter()
        found = self.run(values)
        took = time.perf_counter() - start
        return _decoded(found, self.wanted), took


def _coded(values: Floats, details: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Give float levels as an input wants them."""
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    least, largest = np.iinfo(details["dtype"]).min, np.iinfo(details["dtype"]).max
    codes = np.clip(np.rint(values / scale) + zero, least, largest)
    return np.asarray(codes, details["dtype"])


def _decoded(codes: npt.NDArray[Any], details: Mapping[str, Any]) -> Floats:
    if details["dtype"] == np.float32:
        return np.asarray(codes, np.float32)
    scale, zero = details["quantization"]
    return np.asarray((codes.astype(np.float32) - zero) * scale, np.float32)


def measure(subject: Subject, made: Mapping[Name, bytes]) -> tuple[dict[Name, Floats], pd.Series]:
    """Return logits, and the median time of an image, each photo in every model in turn."""
    runs = {name: Runner(name, model) for name, model in made.items()}
    logits: dict[Name, list[Floats]] = {name: [] for name in runs}
    took: dict[Name, list[float]] = {name: [] for name in runs}
    for levels in track(subject.levels, f"{subject.stage}: photos"):
        for name, run in runs.items():
            found, seconds = run.timed(levels)
            took[name].append(seconds)
            logits[name].append(found[0])
    times = {name: float(np.median(values)) for name, values in took.items()}
    return {name: np.stack(values) for name, values in logits.items()}, pd.Series(times)


def sqnr(before: Floats, after: Floats) -> float:
    """Return the power of logits over that of what quantising adds, in dB, means taken off."""
    one, other = (a.astype(np.float64) - a.mean(axis=1, keepdims=True) for a in (before, after))
    return 10.0 * math.log10(float((one**2).sum() / ((one - other) ** 2).sum()))


def row(name: Name, subject: Subject, logits: Mapping[Name, Floats]) -> dict[str, Any]:
    """Return the figures of a model beside fp32 in its runtime."""
    floats = logits[Name(OURS, "fp32", name.runtime)]
    before, after = subject.decide(floats), subject.decide(logits[name])
    one, other = (log_softmax(of.astype(np.float64), axis=1) for of in (floats, logits[name]))
    differ = int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    return {
        "network": f"{subject.stage}, {subject.network.spec.architecture} "
        f"at {subject.network.spec.input_size}",
        "tool": name.tool,
        "precision": name.kind,
        "runtime": name.runtime,
        "SQNR, dB": sqnr(floats, logits[name]),
        "mean KL": float((np.exp(one) * (one - other)).sum(axis=1).mean()),
        "same label, %": 100.0 * (1.0 - differ / len(before)),
        "mean Δp": float(np.abs(before - after).mean()),
    }


def count(subject: Subject, made: Mapping[Name, bytes], name: Name) -> int:
    """Count a model's instructions on an emulated phone's core."""
    runtime = runtimes.get(f"arm64-{name.runtime}")
    assert isinstance(runtime, Arm64Runtime)
    return count_model(made[name], subject.spec, runtime, {"levels": subject.levels[0]})


def changes(
    before: Floats, after: Floats, tested: pd.DataFrame, taxonomy: Taxonomy
) -> dict[str, str]:
    """Return what a classifier gains and loses by the true labels."""
    labels = tested["dx"].map(taxonomy.index).to_numpy(np.int64)
    found = paired.compare(
        labels,
        tested["lesion_id"].tolist(),
        before.astype(np.float64),
        after.astype(np.float64),
        taxonomy,
    )
    balanced, melanoma = found.changes["balanced_accuracy"].change, found.changes.get("recall/mel")
    return {
        "change of balanced accuracy": (
            f"{balanced.value:+.3f} ({balanced.low:+.3f} to {balanced.high:+.3f})"
        ),
        "McNemar": f"{found.gained} gained, {found.lost} lost, p {found.mcnemar_p:.2f}",
        "melanoma sensitivity": (
            f"{melanoma.before:.3f} to {melanoma.after:.3f}" if melanoma else "none seen"
        ),
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Plot noise over time, a panel for each network and runtime."""
    panels = list(table.groupby(["network", "runtime"], sort=False))
    figure = Figure(figsize=(5 * len(panels) / 2, 8), layout="constrained")
    axes = figure.subplots(2, -(-len(panels) // 2), squeeze=False).T.flatten()
    for axis, ((network, runtime), of) in zip(axes, panels, strict=False):
        for tool, points in of.groupby("tool", sort=False):
            axis.scatter(points["time"], points["SQNR, dB"], label=tool)
        for _, point in of.iterrows():
            axis.annotate(point["precision"], (point["time"], point["SQNR, dB"]), fontsize=6)
        axis.axvline(1.0, color="grey", linewidth=0.5)
        axis.set(title=f"{network}\n{runtime}", xlabel="time / fp32", ylabel="SQNR of logits, dB")
        axis.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def study(
    subject: Subject, tested: pd.DataFrame | None, taxonomy: Taxonomy, given: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the rows of a network; ``tested`` has the true labels, where it is a classifier."""
    made = dict(models(subject))
    logits, times = measure(subject, made)
    counted = cache(partial(count, subject, made))
    rows = []
    for name, model in made.items():
        floats = Name(OURS, "fp32", name.runtime)
        if name == floats:
            continue
        found = row(name, subject, logits)
        if tested is not None:
            answers = (subject.decide(logits[of]) for of in (floats, name))
            found |= changes(*answers, tested, taxonomy)
        found["size"] = len(model) / len(made[floats])
        found["time"] = times[name] / times[floats]
        if given.arm64 and name.tool == OURS:
            found["A76 instructions"] = counted(name) / counted(floats)
        rows.append(found)
    return rows


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", nargs=2, action="append", metavar=("RUN", "RECIPE"), required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, over the recipes")
    parser.add_argument("--only", action="append", help="a stage; repeatable")
    parser.add_argument("--limit", type=int, help="of the test photos, evenly spaced")
    parser.add_argument("--arm64", action="store_true")
    parser.add_argument("--out", default="quantization", help="name of the table's files")
    given = parser.parse_args()
    path = Path(__file__).with_name(f"{given.out}.json")
    if given.arm64 and runtimes.get("arm64-litert").version() is None:
        parser.error(f"--arm64: {runtimes.get('arm64-litert').hint()}")
    for run, name in given.run:
        settings = ("precisions=[fp32, static_wi8_ai8]", *given.set)
        recipe = recipes.load(name, ExportRecipe, settings)
        source = Path(run)
        whole = source.is_dir()
        sources = Sources.from_run(source) if whole else Sources.from_files(source, {}, recipe)
        taxonomy = sources.classifier.info.taxonomy
        records = open_dataset(given.images, taxonomy).records
        parts = pd.read_csv(given.split, index_col="image_id")["part"].reindex(records.index)
        tested = records[parts == "test"].set_index("path")
        given.photos = choose(tested.index.tolist(), given.limit or len(tested))
        tested = tested.loc[given.photos]
        conditions = {
            "images": len(given.photos),
            "calibrated": recipe.calibration.images,
            "versions": {**dict(_versions()), "CPU": machine.cpu()},
        }
        measured(conditions, path)
        for subject in subjects(sources, recipe, given):
            rows = study(subject, tested if subject.stage == "classify" else None, taxonomy, given)
            write(rows, conditions, path)


def measured(conditions: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return rows of a file, where it has any.

    Raises:
        SystemExit: they were measured under other conditions.
    """
    if not path.is_file():
        return []
    before = json.loads(path.read_text())
    if any(before[key] != value for key, value in conditions.items()):
        raise SystemExit(f"{path} was measured under other conditions: delete it, or take --out")
    rows: list[dict[str, Any]] = before["rows"]
    return rows


def write(rows: list[dict[str, Any]], conditions: dict[str, Any], path: Path) -> None:
    """Write the tables and the plot, with what was measured before of other networks."""
    now = {row["network"] for row in rows}
    rows = [row for row in measured(conditions, path) if row["network"] not in now] + rows
    path.write_text(json.dumps({**conditions, "rows": rows}, indent=1) + "\n")
    table = pd.DataFrame(rows)
    draw(table, path.with_suffix(".svg"))
    used = ", ".join(f"{what} {version}" for what, version in conditions["versions"].items())
    lines = [
        "# int8 of networks alone, beside fp32 in the same runtime",
        "",
        f"{conditions['images']} photos of the test part, whose lesions neither training nor",
        f"calibration saw; {conditions['calibrated']} photos calibrated on. From resized levels to",
        "logits; times on one thread, medians over all photos, every model in turn.",
    ]
    for network, of in table.groupby("network", sort=False):
        shown = of.drop(columns="network").dropna(axis="columns", how="all").astype(object)
        for column, places in PLACES.items():
            if column in shown:
                shown[column] = [f"{v:.{places}f}" if pd.notna(v) else "" for v in shown[column]]
        lines += ["", f"## {network}", "", *to_markdown(shown)]
    lines += ["", f"`python benchmarks/quantization.py` ({used})."]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            yield package, version(package)


if __name__ == "__main__":
    main()
