"""What ``bench`` measured and counted, as tables."""

from __future__ import annotations

from classkinfy_export.cli import terminal
from classkinfy_export.latency.instructions import CostReport, StageCost
from classkinfy_export.latency.report import Against, Latency, LatencyReport, Ratio


def show(result: LatencyReport) -> None:
    """Print what was measured on this machine."""
    shown = terminal.table(
        f"Measured on {result.conditions['cpu']}, ms",
        *("runtime", "form", "precision", ">threads", ">cold start", ">first", ">p50", ">p90"),
        *(">vs PyTorch", ">peak MiB", ">added MiB", ">model MiB", ""),
    )
    for row in result.rows:
        shown.add_row(
            *(row.runtime, row.form, row.precision, str(row.threads)),
            f"{row.cold_start_ms:.0f}",
            f"{row.first_ms:.1f}",
            f"{row.p50_ms:.1f}",
            f"{row.p90_ms:.1f}",
            "" if row.of_pytorch is None else f"{1.0 / row.of_pytorch.value:.2f}x",
            f"{row.peak_mib:.0f}",
            f"{row.added_mib:.0f}",
            f"{row.model_mib:.1f}",
            "[yellow]noisy[/]" if row.noisy else "",
        )
    terminal.out.print(shown)
    _show_told([row for row in result.rows if row.form == "staged"])
    routes = {row.route for row in result.rows}
    terminal.out.print(f"grader in these times: {', '.join(sorted(routes - {''})) or 'none'}")
    if result.against is not None:
        _show_against(result.against, result.holds)
    for name, reason in result.not_run.items():
        terminal.out.print(f"[yellow]not run[/] {name}: {terminal.plain(reason)}")
    if any(row.noisy for row in result.rows):
        terminal.out.print("[yellow]the machine was too noisy for the rows marked so[/]")


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


def _show_against(against: Against, holds: float) -> None:
    shown = terminal.table(
        f"Time beside {terminal.plain(against.bundle)}'s, round by round",
        *("runtime", "form", "precision", ">threads", ">its p50, ms", ">ratio", "of the rounds"),
    )
    for row in against.rows:
        shown.add_row(
            *(row.runtime, row.form, row.precision, str(row.threads)),
            f"{row.p50_ms:.1f}",
            f"{row.ratio.value:.3f}",
            _range(row.ratio),
        )
    terminal.out.print(shown)
    terminal.out.print(
        f"A ratio's range holds the true median with a probability of {holds:.1%}; below 1 this "
        "bundle is faster."
    )


def _range(ratio: Ratio) -> str:
    told = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return told if ratio.distinct else f"[yellow]{told}: no difference to be told[/]"


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
