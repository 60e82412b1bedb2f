"""The main job on what a clone holds: the shipped model to a verified, measured bundle.

Photos of patients are not shipped, so it is verified on drawn lesions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classkinfy_export import files, recipes
from classkinfy_export.bundle import writer
from classkinfy_export.data import synthetic
from classkinfy_export.errors import ClasskinfyError, require
from classkinfy_export.frame import list_images
from classkinfy_export.jobs.train import train
from classkinfy_export.latency.host import bench
from classkinfy_export.latency.report import LatencyReport
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.parity.verify import verify

Report = Callable[[str, int, int], None]

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "mobile"
"""The trained model of a clone; its licence keeps it out of the package."""


@dataclass(frozen=True)
class DemoResult:
    """Where the demo put things, and what it found."""

    bundle: Path
    report: Path
    metrics: dict[str, Any]
    parity: ParityReport
    latency: LatencyReport

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "bundle": str(self.bundle),
            "report": str(self.report),
            "metrics": self.metrics,
            "parity": self.parity.model_dump(mode="json"),
            "latency": self.latency.model_dump(mode="json"),
        }


def demo(
    out: Path,
    *,
    train_anew: bool = False,
    lesions_per_class: int = 24,
    seed: int = 0,
    images: int = 60,
    report: Report = lambda what, done, total: None,
) -> DemoResult:
    """Run the main job.

    Args:
        out: everything goes below it; what an earlier demo left there is replaced.
        train_anew: train on the drawn lesions, instead of taking the shipped model.
        lesions_per_class: size of the synthetic set.
        seed: of drawing and training.
        images: how many to verify on.
        report: told of progress.

    Raises:
        MissingDependencyError: an extra is not installed.
        ClasskinfyError: ``out`` holds something else; there is no shipped model here.
    """
    for module, extra in (
        ("lightning", "train"),
        ("litert_torch", "litert"),
        ("jinja2", "report"),
        ("matplotlib", "report"),
    ):
        require(module, extra=extra, purpose="the demo")
    if not train_anew and not (SHIPPED / "metrics.json").is_file():
        raise ClasskinfyError(
            f"there is no finished training run in {SHIPPED}: a clone of the project has the "
            "trained model, the installed package has not",
            hint="pass --train to train one on drawn lesions",
        )
    from classkinfy_export.jobs import export
    from classkinfy_export.jobs.sources import Sources
    from classkinfy_export.reporting.page import render

    marker = out / ".classkinfy-demo"
    if out.exists() and any(out.iterdir()) and not marker.is_file():
        raise ClasskinfyError(
            f"{out} holds something else than a demo", hint="choose another --out"
        )
    files.write(marker, b"")
    data, run = out / "synthetic", out / "run"
    for stale in (data, run):
        shutil.rmtree(stale, ignore_errors=True)
    synthetic.write_dataset(
        data,
        lesions_per_class=lesions_per_class,
        seed=seed,
        progress=lambda done, total: report("drawing lesions", done, total),
    )
    if train_anew:
        recipe = recipes.load("train/smoke.yaml", recipes.TrainRecipe, (f"seed={seed}",))
        train(recipe, [data], run, report=report)
    sources = Sources.from_run(run if train_anew else SHIPPED)
    settings = recipes.load("export/mobile.yaml", recipes.ExportRecipe, ("name=demo",))
    bundle = export.export(sources, settings, out / "bundle", overwrite=True, report=report)
    found = list_images(data)
    parity = verify(
        bundle,
        found[:: max(1, len(found) // images)],
        progress=lambda done, total: report("verifying", done, total),
    )
    writer.add_evidence(bundle, "parity", parity.model_dump(mode="json"))
    latency = bench(
        bundle,
        n=30,
        rounds=3,
        progress=lambda done, total: report("measuring latency", done, total),
    )
    writer.add_evidence(bundle, "latency", latency.model_dump(mode="json"))
    page = out / "report.html"
    files.write(page, render(bundle).encode())
    assert sources.metrics is not None  # a run has them
    return DemoResult(out / "bundle", page, sources.metrics, parity, latency)
