"""``classkinfy train``: both stages, from a recipe and a data set."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from classkinfy_export import recipes
from classkinfy_export.cli import terminal


def command(
    recipe: Annotated[
        str, typer.Argument(help="A training recipe, for example train/mobile.yaml.")
    ],
    data: Annotated[
        list[Path], typer.Option(help="A data set's folder; repeatable, to train on several.")
    ],
    out: Annotated[Path, typer.Option(help="The run's folder; an unfinished run is continued.")],
    severity: Annotated[Path | None, typer.Option(help="CSV: image_id, severity.")] = None,
    split: Annotated[Path | None, typer.Option(help="A split made before.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where decoded images are kept, to share between runs.")
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="A finished run to learn from; repeatable. See classifier.distillation."),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the recipe; repeatable.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices, or processes on CPUs.")] = 1,
    num_nodes: Annotated[int, typer.Option(min=1, help="Machines; start this on each.")] = 1,
    json: terminal.Json = False,
) -> None:
    """Fit the screen's profiles, train the classifier and its graders.

    Example: [bold]classkinfy train train/mobile.yaml --data HAM10000 --out runs/mobile[/]
    """
    settings = recipes.load(recipe, recipes.TrainRecipe, tuple(override or ()))
    from classkinfy_export.jobs.train import train

    leads = int(os.environ.get("LOCAL_RANK", 0)) == int(os.environ.get("NODE_RANK", 0)) == 0
    with terminal.progress() if leads else nullcontext(_silent) as report:
        metrics = train(
            settings,
            data,
            out,
            severity_csv=severity,
            split_csv=split,
            cache_folder=cache,
            teachers=teacher or (),
            hardware=recipes.Hardware(devices=devices, nodes=num_nodes),
            report=report,
        )
    if not leads:
        return
    if json:
        terminal.emit(metrics)
        return
    show(metrics)
    terminal.out.print(f"\nrun: {terminal.plain(out)}")
    terminal.disclaim()


def _silent(what: str, done: int, total: int) -> None:
    """Take progress of a process that another one reports for."""


def show(metrics: dict[str, Any]) -> None:
    """Print a run's figures on its test part."""
    shown = terminal.table(
        f"On the test part of {terminal.plain(metrics['data']['name'])}, split by lesion",
        "stage",
        ">n",
        ">accuracy",
        ">balanced accuracy",
        ">AUROC",
    )
    rows = {"screen": metrics["screen"], "classify": metrics["classifier"]}
    rows |= {f"grade_{dx} (proxy)": figures for dx, figures in metrics["graders"].items()}
    for stage, parts in rows.items():
        figures = parts["test"]
        if figures["n"]:
            auroc = figures["auroc"]
            shown.add_row(
                stage,
                str(figures["n"]),
                f"{figures['accuracy']:.3f}",
                f"{figures['balanced_accuracy']:.3f}",
                "" if auroc is None else f"{auroc:.3f}",
            )
    terminal.out.print(shown)
    found = metrics["screen"]["test"]
    if found.get("masks"):
        terminal.out.print(
            f"lesion masks: mean IoU {found['mean_iou']:.3f} with the experts' ({found['masks']})"
        )
