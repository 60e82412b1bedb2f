"""``classkinfy bench``: latency on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.latency.host import LatencyReport, bench


def command(
    bundle: BundlePath,
    runtimes: Annotated[
        str | None, typer.Option(help="Comma-separated; all that are installed by default.")
    ] = None,
    threads: Annotated[str, typer.Option(help="Thread counts, comma-separated.")] = "1,2",
    n: Annotated[int, typer.Option("--n", min=3, help="Timed answers a configuration.")] = 60,
    warmup: Annotated[int, typer.Option(min=0, help="Answers before them.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes a configuration.")] = 3,
    json: terminal.Json = False,
) -> None:
    """Measure cold start, first answer, percentiles, memory and size.

    Example: [bold]classkinfy bench bundle --threads 1,2[/]
    """
    opened = Bundle.open(bundle)
    try:
        counts = tuple(int(count) for count in threads.split(","))
    except ValueError:
        raise ClasskinfyError(f"--threads {threads!r} is not numbers", hint="e.g. 1,2") from None
    if min(counts) < 1:
        raise ClasskinfyError(f"--threads {threads!r}: at least 1")
    names = [name.strip() for name in runtimes.split(",")] if runtimes else None
    with terminal.progress() as report:
        result = bench(
            opened,
            names=names,
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
    if names is None:
        terminal.keep_evidence(opened, "latency", document)


def show(result: LatencyReport) -> None:
    """Print a report as a table."""
    shown = terminal.table(
        f"Measured on {result.conditions['cpu']}, ms",
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
