"""``classkinfy demo``: the main job, from the shipped model to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classkinfy_export.cli import terminal


def command(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("build/demo"),
    train_anew: Annotated[
        bool, typer.Option("--train", help="Train on the drawn lesions: no shipped model.")
    ] = False,
    lesions: Annotated[int, typer.Option(min=6, help="Synthetic lesions of each class.")] = 24,
    seed: Annotated[int, typer.Option()] = 0,
    json: terminal.Json = False,
) -> None:
    """Export the shipped model, verify it on drawn lesions, measure, report: a few minutes.

    Example: [bold]classkinfy demo --out build/demo[/]
    """
    from classkinfy_export.cli import latency_tables, parity_tables, train
    from classkinfy_export.errors import GateFailedError
    from classkinfy_export.jobs.demo import demo

    with terminal.progress() as report:
        result = demo(
            out, train_anew=train_anew, lesions_per_class=lesions, seed=seed, report=report
        )
    if json:
        terminal.emit(result.to_json())
    else:
        train.show(result.metrics)
        parity_tables.show(result.parity)
        latency_tables.show(result.latency)
        terminal.out.print(terminal.plain(f"\nbundle: {result.bundle}\nreport: {result.report}"))
        terminal.disclaim()
    if not result.parity.passed:
        raise GateFailedError("parity does not hold: " + "; ".join(result.parity.failures()))
