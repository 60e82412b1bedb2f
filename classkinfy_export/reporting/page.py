"""One self-contained page about a bundle: what it holds, does, proves and costs.

The page loads nothing: styles, plots and pictures are inside it, it has no script, and its
content policy forbids any. Everything in it comes from the bundle, and text from a bundle is
escaped. Figures come from ``evidence/``; a section without evidence names the command that makes
it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from classkinfy_export.bundle.manifest import PIPELINE, Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.document import explain
from classkinfy_export.errors import BundleError
from classkinfy_export.evaluation.report import Evaluation
from classkinfy_export.evaluation.search import Search
from classkinfy_export.latency.instructions import CostReport
from classkinfy_export.latency.report import LatencyReport
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.reporting import examples, html, plots
from classkinfy_export.reporting.drawing import Plot
from classkinfy_export.reporting.montage import Montage
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE

Progress = Callable[[int, int], None]

_PARTS = ("val", "calib", "test")
_Report = TypeVar("_Report", bound=BaseModel)


class _Figures(BaseModel):
    """What ``training.metrics.summarise`` gives for one part; all but ``n`` absent at n = 0."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    n: int
    accuracy: float | None = None
    mean_iou: float | None = None
    balanced_accuracy: float | None = None
    auroc: float | None = None
    recall: dict[str, float] = {}
    classes: tuple[str, ...] = ()
    confusion_matrix: tuple[tuple[int, ...], ...] = ()


class _Accuracy(BaseModel):
    """``metrics.json`` of a training run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: dict[str, Any] = {}
    screen: dict[str, _Figures] = {}
    classifier: dict[str, _Figures]
    graders: dict[str, dict[str, _Figures]] = {}


@dataclass(frozen=True)
class _Verdict:
    state: str
    """``passed``, ``failed`` or ``unknown``: also the badge's CSS class."""
    text: str


@dataclass(frozen=True)
class _Sizes:
    """Bytes of the model files of one format; a file in both forms counts for each."""

    format: str
    precision: str
    files: int
    staged: int
    fused: int
    total: int


@dataclass(frozen=True)
class _Sides:
    """How the test part's decisions fall on the malignant and the benign side."""

    malignant: int
    malignant_kept: int
    benign: int
    benign_kept: int


def render(
    bundle: Bundle,
    progress: Progress = lambda done, total: None,
    montages: Sequence[Montage] = (),
) -> str:
    """Draw the page.

    Args:
        bundle: an opened bundle; its golden images are run when a runtime is installed.
        progress: called with (done, total) steps.
        montages: where the classifier looked, by class.

    Returns:
        HTML. The same bundle, evidence and runtime give the same text.
    """
    manifest = bundle.manifest
    problems: dict[str, str] = {}
    evidence = bundle.evidence()
    accuracy = _read(_Accuracy, evidence, "accuracy", problems)
    parity = _read(ParityReport, evidence, "parity", problems)
    latency = _read(LatencyReport, evidence, "latency", problems)
    instructions = _read(CostReport, evidence, "instructions", problems)
    evaluation = _read(Evaluation, evidence, "evaluation", problems)
    search = _read(Search, evidence, "search", problems)
    gallery: examples.Gallery | None = None
    steps = 1
    try:
        gallery = examples.run(bundle, lambda done, total: progress(done, total + 1))
        steps += len(gallery.examples)
    except BundleError as error:
        problems["examples"] = str(error)
    page = html.template("report.html")
    text = page.render(
        manifest=manifest,
        sha256=bundle.sha256,
        disclaimer=DISCLAIMER,
        proxy_notice=PROXY_NOTICE,
        verdict=_verdict(parity),
        sizes=_sizes(manifest),
        graded=manifest.graded,
        steps=[
            (kind, list(specs))
            for kind, specs in itertools.groupby(manifest.stages, lambda spec: spec.kind)
        ],
        problems=problems,
        gallery=gallery,
        montages=montages,
        accuracy=accuracy,
        evaluation=evaluation,
        parts=_PARTS,
        sides=_sides(manifest, accuracy),
        parity=parity,
        runs=_runs(parity),
        latency=latency,
        instructions=instructions,
        search=search,
        unbeaten=[] if search is None else search.front(),
        plots=_plots(manifest, accuracy, parity, latency) | _curves(evaluation) | _noise(search),
    )
    progress(steps, steps)
    return text


def _read(
    model: type[_Report],
    evidence: Mapping[str, dict[str, Any]],
    name: str,
    problems: dict[str, str],
) -> _Report | None:
    """Read one evidence file; what is not as this toolkit writes it becomes a problem."""
    if name not in evidence:
        return None
    content = evidence[name]
    rows = content.get("tensors")
    if name == "parity" and isinstance(rows, list):
        # A strict JSON writer turns infinity and NaN into null.
        given = {"minimum_tolerance": math.inf, "mean_error": math.nan}
        filled = [
            {**row, **{k: v for k, v in given.items() if row.get(k) is None}}
            if isinstance(row, dict)
            else row
            for row in rows
        ]
        content = {**content, "tensors": filled}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems[name] = f"evidence/{name}.json cannot be read: {explain(error, model)}"
        return None


def _verdict(parity: ParityReport | None) -> _Verdict:
    if parity is None:
        return _Verdict("unknown", "parity not verified")
    # Evidence is not signed: the verdict is what its rows say, not only what its summary says.
    ran = bool(parity.tensors) and bool(parity.decisions)
    held = all(row.passed for row in parity.decisions) and all(
        row.passed and (row.tolerance is None or row.minimum_tolerance <= row.tolerance)
        for row in parity.tensors
    )
    if not (parity.passed and ran and held):
        return _Verdict("failed", "parity FAILED" if ran else "parity FAILED: nothing ran")
    missing = len(parity.not_run)
    suffix = f", {missing} runtime{'' if missing == 1 else 's'} not run" if missing else ""
    return _Verdict("passed", f"parity passed{suffix}")


def _runs(parity: ParityReport | None) -> dict[tuple[str, str], list[TensorParity]]:
    runs: dict[tuple[str, str], list[TensorParity]] = {}
    for row in parity.tensors if parity else ():
        runs.setdefault((row.runtime, f"{row.precision} {row.form}"), []).append(row)
    return runs


def _sizes(manifest: Manifest) -> list[_Sizes]:
    found = []
    for key in dict.fromkeys((m.format, m.precision) for m in manifest.models):
        ours = [m for m in manifest.models if (m.format, m.precision) == key]
        size = {m.path: manifest.files[m.path].size_bytes for m in ours}
        staged = {m.path for m in ours if set(m.entries) - {PIPELINE}}
        fused = {m.path for m in ours if PIPELINE in m.entries}
        found.append(
            _Sizes(
                format=key[0],
                precision=key[1],
                files=len(size),
                staged=sum(size[path] for path in staged),
                fused=sum(size[path] for path in fused),
                total=sum(size.values()),
            )
        )
    return found


def _sides(manifest: Manifest, accuracy: _Accuracy | None) -> _Sides | None:
    test = accuracy.classifier.get("test") if accuracy else None
    if test is None or not _drawable(test):
        return None
    malignant = [name in manifest.taxonomy.malignant for name in test.classes]
    cells = [
        (malignant[true], malignant[true] == malignant[guess], count)
        for true, row in enumerate(test.confusion_matrix)
        for guess, count in enumerate(row)
    ]
    return _Sides(
        malignant=sum(count for side, _, count in cells if side),
        malignant_kept=sum(count for side, kept, count in cells if side and kept),
        benign=sum(count for side, _, count in cells if not side),
        benign_kept=sum(count for side, kept, count in cells if not side and kept),
    )


def _drawable(figures: _Figures) -> bool:
    size = len(figures.classes)
    return size > 0 and [len(row) for row in figures.confusion_matrix] == [size] * size


def _plots(
    manifest: Manifest,
    accuracy: _Accuracy | None,
    parity: ParityReport | None,
    latency: LatencyReport | None,
) -> dict[str, Plot]:
    drawn: dict[str, Plot] = {}
    test = accuracy.classifier.get("test") if accuracy else None
    if test is not None and _drawable(test):
        drawn["confusion"] = plots.confusion(test.classes, test.confusion_matrix)
    if test is not None and test.recall:
        malignant = manifest.taxonomy.malignant
        drawn["recall"] = plots.recall([*test.recall], [*test.recall.values()], malignant)
    if parity is not None and any(row.precision == "fp32" for row in parity.tensors):
        drawn["parity"] = plots.parity([r for r in parity.tensors if r.precision == "fp32"])
    if latency is not None and latency.rows:
        drawn["latency"] = plots.latency(latency.rows)
        staged = [row for row in latency.rows if len(row.stages_p50_ms) > 1]
        if staged:
            drawn["stages"] = plots.stages(staged)
    return drawn


def _noise(search: Search | None) -> dict[str, Plot]:
    """Draw each stage's blocks, under ``sensitivity/<stage>``."""
    rows = () if search is None else search.sensitivity
    return {
        f"sensitivity/{stage}": plots.sensitivity([row for row in rows if row.stage == stage])
        for stage in dict.fromkeys(row.stage for row in rows)
    }


def _curves(evaluation: Evaluation | None) -> dict[str, Plot]:
    if evaluation is None:
        return {}
    return {
        "roc": plots.roc(evaluation),
        "reliability": plots.reliability(evaluation.reliability),
    }
