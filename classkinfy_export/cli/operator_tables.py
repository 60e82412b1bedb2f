"""A profile of operators as tables on the terminal."""

from __future__ import annotations

from rich.table import Table

from classkinfy_export.cli import terminal
from classkinfy_export.latency.operators.report import (
    Coverage,
    ProfileReport,
    RuntimeProfile,
    placed,
)

_KINDS = 12
"""Operators that have a line of their own in the table of kinds; the others share one."""


def show(report: ProfileReport) -> None:
    """Print a report as tables: what stages took, by operator, the ten dearest, and hints."""
    cpu = report.conditions["cpu"]
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    terminal.out.print(f"{report.precision}, {threads}, median of {report.n}, on {cpu}")
    for profile in report.runtimes:
        terminal.out.print(_stages(profile))
        if any(stage.noisy for stage in profile.stages):
            terminal.out.print(
                "[yellow]the machine was too noisy for the sums of the stages marked so[/]"
            )
        terminal.out.print(_kinds(profile))
        hints: dict[str, int] = {}
        terminal.out.print(_dearest(profile, hints))
        for hint, number in hints.items():
            terminal.out.print(f"[cyan]hint {number}[/] {terminal.plain(hint)}")
    for name, reason in report.not_run.items():
        terminal.out.print(f"[yellow]not run[/] {name}: {terminal.plain(reason)}")


def _stages(profile: RuntimeProfile) -> Table:
    delegated = any(stage.coverage for stage in profile.stages)
    table = terminal.table(
        f"{profile.runtime}, {profile.form}: stages, ms",
        *("stage", ">wall", ">with profiler", ">operators' sum", ">operators"),
        "",
        *((">taken by XNNPACK", ">parts", "left to LiteRT's own kernels") if delegated else ()),
    )
    for stage in profile.stages:
        table.add_row(
            stage.stage,
            f"{stage.wall_ms:.2f}",
            f"{stage.profiled_ms:.2f}",
            f"{stage.operators_ms:.2f}",
            str(len(stage.operators)),
            "[yellow]noisy[/]" if stage.noisy else "",
            *(_coverage(stage.coverage) if stage.coverage else ()),
        )
    return table


def _coverage(found: Coverage) -> tuple[str, str, str]:
    left = ", ".join(f"{count} {operator}" for operator, count in found.left.items())
    return f"{found.delegated} of {found.nodes}", str(found.partitions), left


def _kinds(profile: RuntimeProfile) -> Table:
    table = terminal.table(f"{profile.runtime}: by operator", "operator", ">count", ">ms", ">share")
    for total in profile.by_operator[:_KINDS]:
        table.add_row(
            terminal.plain(total.name), str(total.count), f"{total.ms:.2f}", f"{total.share:.1%}"
        )
    rest = profile.by_operator[_KINDS:]
    if rest:
        table.add_row(
            f"{len(rest)} others",
            str(sum(total.count for total in rest)),
            f"{sum(total.ms for total in rest):.2f}",
            f"{sum(total.share for total in rest):.1%}",
        )
    return table


def _dearest(profile: RuntimeProfile, hints: dict[str, int]) -> Table:
    """Return the table; hints in it are numbered, and put into ``hints``."""
    table = terminal.table(
        f"{profile.runtime}: the dearest operators",
        *("stage", "module", "operator", "of", ">ms", ">share", ">hint"),
    )
    for stage, row in profile.dearest():
        number = hints.setdefault(row.hint, len(hints) + 1) if row.hint else ""
        table.add_row(
            stage,
            terminal.plain(placed(row)),
            terminal.plain(row.operator if row.kernel is None else f"{row.operator}: {row.kernel}"),
            terminal.plain(f"{row.dtype} {'x'.join(map(str, row.shape))}"),
            f"{row.ms:.3f}",
            f"{row.share:.1%}",
            str(number),
        )
    return table
