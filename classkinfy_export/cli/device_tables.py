"""What ``classkinfy bench --adb`` prints."""

from __future__ import annotations

from classkinfy_export.cli import terminal
from classkinfy_export.latency.device.conditions import STATUSES, State
from classkinfy_export.latency.device.report import DeviceLatency, DeviceReport


def show(report: DeviceReport) -> None:
    """Print a report as tables: the app's, the tools' stages, and what to know of both."""
    phone = report.phone
    name = f"{phone.manufacturer} {phone.model} ({phone.soc}, Android {phone.android})"
    title = terminal.plain(f"Measured on {name}, ms")
    apps = [row for row in report.rows if not row.stages]
    tools = [row for row in report.rows if row.stages]
    if apps:
        _show_apps(f"{title}, in the demo app", apps)
    if tools:
        _show_tools(f"{title}, each stage by itself in a tool", tools)
    terminal.out.print(f"phone before: {_state(report.before)}; after: {_state(report.after)}")
    for row in report.rows:
        for remark in row.remarks:
            terminal.out.print(
                f"[yellow]throttled[/] {row.source} {row.runtime} {row.form} {row.precision}, "
                f"threads {row.threads}: {terminal.plain(remark)}"
            )
    if any(row.throttled is None for row in report.rows):
        terminal.out.print("[yellow]the phone tells nothing to see by whether it was throttled[/]")
    for what, reason in report.not_run.items():
        terminal.out.print(f"[yellow]not run[/] {what}: {terminal.plain(reason)}")
    if report.left_behind is not None:
        terminal.out.print(f"[yellow]still on the phone:[/] {terminal.plain(report.left_behind)}")


def _show_apps(title: str, rows: list[DeviceLatency]) -> None:
    shown = terminal.table(
        title,
        *(
            "runtime",
            "form",
            "precision",
            ">threads",
            ">cold start",
            ">first",
            ">p50",
            ">p90",
            ">p99",
        ),
        *(">peak MiB", ">PSS MiB", ">model MiB", "grader", ""),
    )
    for row in rows:
        times = row.cold_start_ms, row.first_ms, row.p50_ms, row.p90_ms, row.p99_ms
        shown.add_row(
            *(row.runtime, row.form, row.precision, str(row.threads)),
            *(_number(time) for time in times),
            *(_number(size) for size in (row.peak_mib, row.pss_mib, row.model_mib)),
            row.route or "none",
            _mark(row),
        )
    terminal.out.print(shown)


def _show_tools(title: str, rows: list[DeviceLatency]) -> None:
    shown = terminal.table(
        title,
        *(
            "tool",
            "precision",
            ">threads",
            "cores",
            "stage",
            ">load",
            ">first",
            ">mean",
            ">p50",
            ">p90",
        ),
        *(">p95", ">peak MiB", ">PSS MiB", ""),
    )
    for row in rows:
        cores = ",".join(map(str, row.cores)) or "any"
        for stage in row.stages:
            times = stage.load_ms, stage.first_ms, stage.mean_ms
            percentiles = stage.p50_ms, stage.p90_ms, stage.p95_ms
            shown.add_row(
                *(row.source, row.precision, str(row.threads), cores, stage.stage),
                *(_number(time) for time in (*times, *percentiles)),
                *(_number(size) for size in (stage.peak_mib, stage.pss_mib)),
                _mark(row),
            )
        sums = "", "", _number(row.sum_mean_ms), _number(row.sum_p50_ms)
        shown.add_row(
            *(row.source, row.precision, str(row.threads), cores, "[bold]sum of stages[/]", *sums),
            *("", "", "", "", _mark(row)),
            end_section=True,
        )
    terminal.out.print(shown)


def _mark(row: DeviceLatency) -> str:
    if row.remarks:
        return "[yellow]throttled[/]"
    return "[yellow]noisy[/]" if row.noisy else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _state(state: State) -> str:
    status = "unknown" if state.thermal_status is None else STATUSES[state.thermal_status]
    told = [f"thermal status {status}"]
    if state.battery_temperature_c is not None:
        told.append(f"battery {state.battery_temperature_c:.1f} °C")
    if state.battery_percent is not None:
        told.append(f"{state.battery_percent:.0f} %")
    if state.battery_current_ua is not None:
        told.append(f"current_now {state.battery_current_ua}")
    return ", ".join(told)
