"""Measure a bundle on a phone: copy it there, run every configuration in rounds, take it away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from classkinfy_export import __version__
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ClasskinfyError
from classkinfy_export.latency import scope
from classkinfy_export.latency.device.adb import Adb
from classkinfy_export.latency.device.conditions import State, identify, read_state
from classkinfy_export.latency.device.payload import Payload
from classkinfy_export.latency.device.plan import TOOLS, Plan, Settings, find_tools, plan
from classkinfy_export.latency.device.report import DeviceLatency, DeviceReport
from classkinfy_export.latency.device.runs import app_row, tool_row
from classkinfy_export.latency.device.throttling import cooled, remarks, visible
from classkinfy_export.precision import Precision

Progress = Callable[[str, int, int], None]


def bench_on_device(
    bundle: Bundle,
    serial: str | None = None,
    *,
    tools: Mapping[str, Path] | None = None,
    precisions: Sequence[Precision] | None = None,
    threads: Sequence[int] = (1, 2),
    cores: Sequence[int] | None = None,
    n: int = 60,
    warmup: int = 5,
    rounds: int = 3,
    photo: bytes | None = None,
    cool_to: int = 0,
    patience_s: float = 300.0,
    progress: Progress = lambda what, done, total: None,
) -> DeviceReport:
    """Measure a bundle on a phone, with the demo app where it is installed, and the tools given.

    Args:
        bundle: an opened bundle.
        serial: the phone's, as ``adb devices`` lists it; None means the only one.
        tools: by runtime (``plan.TOOLS``), its benchmark program, or a folder that holds it and its
            libraries.
        precisions: of the models; None means all that the bundle holds.
        threads: thread counts to measure.
        cores: those to keep the tools on; None means the fastest cluster, and the next one with it
            while there are more threads than cores.
        n: answers to time for each configuration, over all rounds.
        warmup: answers before them, in each round.
        rounds: fresh processes for each configuration; every second round in reverse order.
        photo: encoded, for the app; None means a synthetic lesion of the capture's size, as a JPEG.
        cool_to: the thermal status (``conditions.STATUSES``) to wait for before each round.
        patience_s: the longest such wait, seconds; what starts too warm is marked so.
        progress: called with (what, done, total) processes.

    Raises:
        MissingDependencyError: there is no adb.
        BundleError: nothing that the bundle holds is to run, or it does not hold a precision.
        ClasskinfyError: no phone, or not one; a tool that it does not run; no space on it; a
            command that failed; a connection that was lost. What was copied is removed where the
            phone can still be reached, and nothing is reported.
    """
    adb = Adb.connect(serial)
    phone = identify(adb)
    given = find_tools(tools or {}, phone)
    payload = Payload(adb, bundle)
    settings = Settings(
        scope.precisions(bundle, precisions), threads, cores, max(1, n // rounds), warmup
    )
    planned = plan(adb, bundle, payload, phone, given, settings)
    try:
        payload.push(
            sorted({run.step.model for run in planned.stages}),
            {runtime: tool.files for runtime, tool in given.items()},
            (scope.drawn_photo(bundle) if photo is None else photo) if planned.apps else None,
        )
        before, after = _measure(adb, planned, rounds, cool_to, patience_s, progress)
        rows = _rows(bundle, planned, visible(before))
    except BaseException as error:
        if not payload.remove() and isinstance(error, ClasskinfyError):
            hint = f"{error.hint}; {payload.folder} is still on the phone".removeprefix("; ")
            raise ClasskinfyError(error.message, hint=hint) from error
        raise
    given_photo = "synthetic lesion" if photo is None else "given"
    sources = [f"app: {given_photo}"] if planned.apps else []
    return DeviceReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        image="; ".join([*sources, *(["tools: random bytes"] if planned.stages else [])]),
        warmup=warmup,
        rounds=rounds,
        rows=rows,
        not_run=planned.not_run,
        conditions={
            "toolkit": __version__,
            **{f"{tool.program} sha256": tool.sha256 for tool in given.values()},
            **{name: version for run in planned.apps for name, version in run.versions.items()},
        },
        phone=phone,
        before=before,
        after=after,
        left_behind=None if payload.remove() else payload.folder,
    )


def _measure(
    adb: Adb, planned: Plan, rounds: int, cool_to: int, patience_s: float, progress: Progress
) -> tuple[State, State]:
    """Run everything in rounds; return the phone's state before the first and after the last."""
    runs = planned.runs
    total = rounds * len(runs)
    start = state = read_state(adb)
    for number in range(rounds):
        done = number * len(runs)
        state = cooled(adb, cool_to, patience_s, _told(progress, done, total))
        # Back and forth, so that a drift slows all of them alike.
        for place, run in enumerate(runs if number % 2 == 0 else runs[::-1]):
            progress(run.label, done + place, total)
            run.measure()
            before, state = state, read_state(adb)
            found = remarks(start, before, state, cool_to, run.cores)
            run.remarks += [f"round {number + 1}: {remark}" for remark in found]
    progress("memory", total, total)
    return start, state


def _told(progress: Progress, done: int, total: int) -> Callable[[str], None]:
    return lambda what: progress(what, done, total)


def _rows(bundle: Bundle, planned: Plan, seen: bool) -> tuple[DeviceLatency, ...]:
    rows = []
    for app in planned.apps:
        order = app.order
        size = scope.model_bytes(bundle, TOOLS[order.runtime].format, order.precision, order.form)
        rows.append(
            app_row(app, scope.graded(bundle, app.results[0].diagnosis), size / 2**20, seen)
        )
    for _, group in groupby(
        planned.stages, key=lambda run: (run.tool.runtime, run.precision, run.call.threads)
    ):
        runs = list(group)
        size = scope.model_bytes(bundle, runs[0].tool.format, runs[0].precision, "staged")
        rows.append(tool_row(runs, size / 2**20, seen))
    return tuple(rows)
