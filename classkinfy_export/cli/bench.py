"""``classkinfy bench``: latency on this machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.document import explain
from classkinfy_export.errors import ClasskinfyError, GateFailedError
from classkinfy_export.latency.host import LatencyReport, bench
from classkinfy_export.latency.instructions import CostReport, StageCost, count


def command(
    bundle: BundlePath,
    runtimes: Annotated[
        str | None, typer.Option(help="Comma-separated; by default those that an app has.")
    ] = None,
    precision: terminal.Precision = "fp32",
    threads: Annotated[str, typer.Option(help="Thread counts, comma-separated.")] = "1,2",
    n: Annotated[int, typer.Option("--n", min=3, help="Timed answers a configuration.")] = 60,
    warmup: Annotated[int, typer.Option(min=0, help="Answers before them.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes a configuration.")] = 3,
    arm64: Annotated[
        bool, typer.Option("--arm64", help="Count instructions on emulated ARM64 cores instead.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="What --arm64 --json printed before, to compare with.")
    ] = None,
    max_regression: Annotated[
        str, typer.Option(help="Most that a stage may cost more than in the baseline.")
    ] = "2%",
    json: terminal.Json = False,
) -> None:
    """Measure cold start, first answer, percentiles, memory and size; or count instructions.

    Example: [bold]classkinfy bench bundle --threads 1,2[/]

    Example: [bold]classkinfy bench bundle --arm64 --baseline costs.json --max-regression 2%[/]
    """
    opened = Bundle.open(bundle)
    if baseline is not None and not arm64:
        raise ClasskinfyError("--baseline is for counted instructions", hint="add --arm64")
    if arm64:
        _count(opened, runtimes, baseline, _share(max_regression), json)
        return
    try:
        counts = tuple(int(count) for count in threads.split(","))
    except ValueError:
        raise ClasskinfyError(f"--threads {threads!r} is not numbers", hint="e.g. 1,2") from None
    if min(counts) < 1:
        raise ClasskinfyError(f"--threads {threads!r}: at least 1")
    names = terminal.names(runtimes)
    with terminal.progress() as report:
        result = bench(
            opened,
            names=names,
            precision=precision,
            threads=counts,
            n=n,
            warmup=warmup,
            rounds=rounds,
            progress=lambda done, total: report("measuring", done, total),
        )
    document = result.model_dump(mode="json")
    if json:
        terminal.emit(document)
    else:
        show(result)
    if names is None and precision == "fp32":
        terminal.keep_evidence(opened, "latency", document)


def _count(
    bundle: Bundle, runtimes: str | None, baseline: Path | None, most: float, json: bool
) -> None:
    before = _baseline(baseline) if baseline is not None else None
    names = terminal.names(runtimes)
    with terminal.progress() as report:
        result = count(
            bundle,
            names=names,
            progress=lambda done, total: report("counting", done, total),
        )
    document = result.model_dump(mode="json")
    if json:
        terminal.emit(document)
    else:
        show_costs(result, before)
    if names is None:
        terminal.keep_evidence(bundle, "instructions", document)
    lines = result.regressions(before, most) if before is not None else []
    if lines:
        raise GateFailedError("it costs more than before: " + "; ".join(lines))


def _baseline(path: Path) -> CostReport:
    try:
        return CostReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ClasskinfyError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ClasskinfyError(
            f"{path} is no baseline: {explain(error, CostReport)}",
            hint="it is what 'classkinfy bench BUNDLE --arm64 --json' prints",
        ) from error


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = math.nan
    # A plain 2 is more likely two percent than three times the cost.
    if not 0.0 <= share < (math.inf if text.endswith("%") else 1.0):
        raise ClasskinfyError(f"--max-regression {text!r} is no share", hint="as 2% or 0.02")
    return share


def show_costs(result: CostReport, before: CostReport | None) -> None:
    """Print counted instructions as a table."""
    names = list(dict.fromkeys(row.runtime for row in result.rows))
    shown = terminal.table(
        "Instructions of one run, counted by the emulator, millions",
        "stage",
        *(f">{name}" for name in names),
    )
    old = {row.key: row.instructions for row in before.rows} if before is not None else {}
    for stage in dict.fromkeys(row.stage for row in result.rows):
        ours = {row.runtime: row for row in result.rows if row.stage == stage}
        shown.add_row(stage, *(_cost(ours.get(name), old) for name in names))
    terminal.out.print(shown)


def _cost(row: StageCost | None, old: dict[tuple[str, str, str], int]) -> str:
    if row is None:
        return ""
    told = f"{row.instructions / 1e6:.2f}"
    before = old.get(row.key)
    return told if before is None else f"{told} ({row.instructions / before - 1.0:+.1%})"


def show(result: LatencyReport) -> None:
    """Print a report as a table."""
    shown = terminal.table(
        f"{result.precision}, measured on {result.conditions['cpu']}, ms",
        "runtime",
        "form",
        ">threads",
        ">cold start",
        ">first",
        ">p50",
        ">p90",
        ">vs PyTorch",
        ">peak MiB",
        ">added MiB",
        ">model MiB",
        "",
    )
    for row in result.rows:
        shown.add_row(
            row.runtime,
            row.form,
            str(row.threads),
            f"{row.cold_start_ms:.0f}",
            f"{row.first_ms:.1f}",
            f"{row.p50_ms:.1f}",
            f"{row.p90_ms:.1f}",
            "" if row.speedup is None else f"{row.speedup:.2f}x",
            f"{row.peak_mib:.0f}",
            f"{row.added_mib:.0f}",
            f"{row.model_mib:.1f}",
            "[yellow]noisy[/]" if row.noisy else "",
        )
    terminal.out.print(shown)
    routes = {row.route for row in result.rows}
    terminal.out.print(f"grader in these times: {', '.join(sorted(routes - {''})) or 'none'}")
    for name, reason in result.not_run.items():
        terminal.out.print(f"[yellow]not run[/] {name}: {terminal.plain(reason)}")
    if any(row.noisy for row in result.rows):
        terminal.out.print("[yellow]the machine was too noisy for the rows marked so[/]")
