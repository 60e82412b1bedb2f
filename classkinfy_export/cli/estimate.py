"""``classkinfy estimate``: latency on phones that are not here."""

from __future__ import annotations

from typing import Annotated

import typer

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.latency.estimate import estimate
from classkinfy_export.latency.estimate.report import EstimateReport, Latency, PhoneEstimate

_BOUNDED = 0.5
"""Less of a stage's estimate than this is fitted: its interval is mostly bounds."""


def command(
    bundle: BundlePath,
    phones: Annotated[
        str | None,
        typer.Option(help="Comma-separated names or YAML files; by default all that are known."),
    ] = None,
    precision: terminal.Precision = "fp32",
    threads: Annotated[
        int, typer.Option(min=1, help="On a phone's large cores, where it has so many.")
    ] = 1,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Estimate latency on phones' CPUs without a phone, from what others published of theirs.

    Example: [bold]classkinfy estimate bundle --phones pixel-4,galaxy-a54[/]

    Example: [bold]classkinfy estimate bundle --phones mine.yaml --threads 4[/]
    """
    result = estimate(
        Bundle.open(bundle, terminal.trusted(trusted)),
        terminal.names(phones),
        precision=precision,
        threads=threads,
    )
    if json:
        terminal.emit(result.model_dump(mode="json"))
    else:
        show(result)


def show(result: EstimateReport) -> None:
    """Print a report as a table."""
    first = result.phones[0]
    shown = {stage: stage for stage in _always(first)}
    table = terminal.table(
        f"{result.precision}, estimated and not measured, ms: most likely (low-high)",
        "phone",
        ">threads",
        *(f">{stage}" for stage in shown),
        ">dearest grader",
        ">total",
    )
    for phone in result.phones:
        stages = {stage.stage: stage.latency for stage in phone.stages}
        graders = [found for stage, found in stages.items() if stage not in shown]
        dearest = max(graders, key=lambda one: one.ms, default=None)
        table.add_row(
            phone.phone,
            str(phone.threads),
            *(_cell(stages[stage]) for stage in shown),
            _cell(dearest) if dearest else "",
            _cell(phone.total),
        )
    terminal.out.print(table)
    fit = result.fit
    held = fit.both_held_out
    terminal.out.print(
        f"from the work of its {' and '.join(result.formats)} files, for "
        f"{result.conditions['kernels']} kernels; fitted on {fit.fitted_on}"
    )
    terminal.out.print(
        f"of phones and networks held out, estimates were off by {held.median_error:.0%} in the "
        f"median and by more than {held.p90_error:.0%} in one of ten; {held.coverage:.0%} of "
        f"{held.latencies} published latencies were within their interval"
    )
    others = dict.fromkeys(phone.core for phone in result.phones if phone.core not in fit.cores)
    if others:
        terminal.out.print(
            f"[yellow]{', '.join(others)}[/]: no core of this kind was fitted on, so these phones' "
            "intervals may be too narrow"
        )
    bounded = [stage.stage for stage in first.stages if stage.fitted_share < _BOUNDED]
    if bounded:
        terminal.out.print(
            f"[yellow]{', '.join(bounded)}[/]: mostly elementwise operators, of which published "
            "runs have few: low and high are what a core can do at best, and one element at a time"
        )


def _always(phone: PhoneEstimate) -> list[str]:
    return [stage.stage for stage in phone.stages if not stage.routed]


def _cell(latency: Latency) -> str:
    return f"{_ms(latency.ms)} ({_ms(latency.low_ms)}-{_ms(latency.high_ms)})"


def _ms(value: float) -> str:
    return f"{value:.{2 - (value >= 1) - (value >= 10)}f}"
