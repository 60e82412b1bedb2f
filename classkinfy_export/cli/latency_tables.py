"""What ``bench`` measured and counted, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from classkinfy_export.cli import terminal
from classkinfy_export.latency.instructions import CostReport, StageCost
from classkinfy_export.latency.report import Against, Latency, LatencyReport

_CONFIGURATION = ("runtime", "form", "precision", ">threads")


def show(result: LatencyReport) -> None:
    """Print what was measured on this machine."""
    _show_times(result)
    _show_told([row for row in result.rows if row.form == "staged"])
    _show_memory(result.rows)
    routes = {row.route for row in result.rows}
    terminal.out.print(f"grader in these times: {', '.join(sorted(routes - {''})) or 'none'}")
    if result.against is not None:
        _show_against(result, result.against)
    for name, reason in result.not_run.items():
        terminal.out.print(f"[yellow]not run[/] {name}: {terminal.plain(reason)}")
    if any(row.noisy for row in result.rows):
        terminal.out.print("[yellow]the machine was too noisy for the rows marked so[/]")
    elif result.rounds == 1:
        terminal.out.print("[yellow]one round: noise between rounds cannot be seen[/]")


def _show_times(result: LatencyReport) -> None:
    shown = terminal.table(
        f"Measured on {result.conditions['cpu']}, ms",
        *(*_CONFIGURATION, ">cold start", ">first", ">p50", ">p90", ">p99", ">vs PyTorch", ""),
    )
    for row in result.rows:
        shown.add_row(
            *_configuration(row),
            f"{row.cold_start_ms:.0f}",
            f"{row.first_ms:.1f}",
            f"{row.p50_ms:.1f}",
            f"{row.p90_ms:.1f}",
            f"{row.p99_ms:.1f}",
            "" if row.of_pytorch is None else f"{1.0 / row.of_pytorch.value:.2f}x",
            "[yellow]noisy[/]" if row.noisy else "",
        )
    terminal.out.print(shown)


def _show_memory(rows: Sequence[Latency]) -> None:
    shown = terminal.table(
        "Resident memory, and size of the models, MiB",
        *(*_CONFIGURATION, ">peak", ">added", ">steady", ">models"),
    )
    for row in rows:
        sizes = (row.peak_mib, row.added_mib, row.steady_mib)
        shown.add_row(*_configuration(row), *(f"{s:.0f}" for s in sizes), f"{row.model_mib:.1f}")
    terminal.out.print(shown)


def _configuration(row: Latency) -> tuple[str, str, str, str]:
    return row.runtime, row.form, row.precision, str(row.threads)


def _show_told(rows: list[Latency]) -> None:
    if not rows:
        return
    answers = ("preliminary", "diagnosis", "severity")
    shown = terminal.table(
        "From the photo's bytes until an answer is known, p50, ms",
        *("runtime", "precision", ">threads", *(f">{answer}" for answer in answers)),
    )
    for row in rows:
        told = [row.told_p50_ms.get(answer) for answer in answers]
        times = ("" if time is None else f"{time:.1f}" for time in told)
        shown.add_row(row.runtime, row.precision, str(row.threads), *times)
    terminal.out.print(shown)


def _show_against(result: LatencyReport, against: Against) -> None:
    shown = terminal.table(
        f"Time beside {terminal.plain(against.bundle)}'s, round by round",
        *(*_CONFIGURATION, ">its p50, ms", ">ratio", "of the rounds"),
    )
    own = {row.configuration: row for row in result.rows}
    for row in against.rows:
        told = f"{row.ratio.low:.3f} to {row.ratio.high:.3f}"
        if own[row.other.configuration].route != row.other.route:
            told = f"[yellow]{told}: it graded the photo as {row.other.route or 'nothing'}[/]"
        elif not result.differs(row.ratio):
            told = f"[yellow]{told}: no difference to be told[/]"
        shown.add_row(
            *_configuration(row.other),
            f"{row.other.p50_ms:.1f}",
            f"{row.ratio.value:.3f}",
            told,
        )
    terminal.out.print(shown)
    terminal.out.print(
        f"A row's range holds the true median with a probability of {result.holds:.1%}; below 1 "
        "this bundle is faster. It takes five rounds to tell a difference."
    )
    for name in against.not_compared:
        terminal.out.print(f"[yellow]not compared[/] {name}: the other bundle does not hold it")


def show_costs(result: CostReport, before: CostReport | None) -> None:
    """Print counted instructions, and how they changed."""
    names = list(dict.fromkeys((row.runtime, row.precision) for row in result.rows))
    shown = terminal.table(
        "Instructions of one run, counted by the emulator, millions",
        *("stage", *(f">{runtime} {precision}" for runtime, precision in names)),
    )
    old = {row.key: row.instructions for row in before.rows} if before is not None else {}
    for stage in dict.fromkeys(row.stage for row in result.rows):
        ours = {(r.runtime, r.precision): r for r in result.rows if r.stage == stage}
        shown.add_row(stage, *(_cost(ours.get(name), old) for name in names))
    terminal.out.print(shown)


def _cost(row: StageCost | None, old: dict[tuple[str, str, str], int]) -> str:
    if row is None:
        return ""
    told = f"{row.instructions / 1e6:.2f}"
    before = old.get(row.key)
    return told if before is None else f"{told} ({row.instructions / before - 1.0:+.1%})"
