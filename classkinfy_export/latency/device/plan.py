"""Which configurations a phone is to run, and why it does not run others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.latency.device import app
from classkinfy_export.latency.device.adb import Adb
from classkinfy_export.latency.device.benchmark_model import BenchmarkModel
from classkinfy_export.latency.device.conditions import Phone, fastest, pin
from classkinfy_export.latency.device.payload import Payload
from classkinfy_export.latency.device.perf_test import PerfTest
from classkinfy_export.latency.device.route import Step, forms, route
from classkinfy_export.latency.device.runs import AppRun, Run, StageRun
from classkinfy_export.latency.device.tool import Call, Tool
from classkinfy_export.precision import Precision

TOOLS: dict[str, type[Tool]] = {tool.runtime: tool for tool in (BenchmarkModel, PerfTest)}
"""The benchmark programs, by the runtime that they measure. The app has both runtimes."""


@dataclass(frozen=True)
class Settings:
    """How each configuration is measured.

    Attributes:
        precisions: of the models.
        threads: thread counts.
        cores: to keep the tools on; None means the fastest.
        n: answers to time in one process.
        warmup: answers before them.
    """

    precisions: Sequence[Precision]
    threads: Sequence[int]
    cores: Sequence[int] | None
    n: int
    warmup: int


@dataclass(frozen=True)
class Plan:
    """What to run, in order, and what not."""

    apps: tuple[AppRun, ...]
    stages: tuple[StageRun, ...]
    not_run: dict[str, str]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them."""
        return (*self.apps, *self.stages)


def find_tools(paths: Mapping[str, Path], phone: Phone) -> dict[str, Tool]:
    """Return the tools that were given, by runtime.

    Raises:
        ClasskinfyError: there is no such tool or file, or the phone does not run it.
    """
    found = {}
    for runtime, path in paths.items():
        if runtime not in TOOLS:
            raise ClasskinfyError(f"there is no tool of {runtime!r}", hint=", ".join(TOOLS))
        tool = found[runtime] = TOOLS[runtime](path)
        if tool.abi not in phone.abis:
            raise ClasskinfyError(
                f"{tool.program} is built for {tool.abi}, and {phone.manufacturer} {phone.model} "
                f"runs {', '.join(phone.abis)}",
                hint=f"build it for {phone.abis[0]}, or take another phone",
            )
    return found


def plan(
    adb: Adb,
    bundle: Bundle,
    payload: Payload,
    phone: Phone,
    tools: Mapping[str, Tool],
    settings: Settings,
) -> Plan:
    """Plan the app's configurations, where it is installed, and every stage of the tools.

    Raises:
        BundleError: nothing is left to run.
        ClasskinfyError: the phone lacks a core that was named.
    """
    apps: list[AppRun] = []
    stages: list[StageRun] = []
    not_run = {}
    if not app.installed(adb):
        not_run["app"] = f"{app.PACKAGE} is not installed on the phone"
    for runtime, kind in TOOLS.items():
        if runtime not in tools:
            not_run[kind.program] = f"no path of it was given: --tool {runtime}=PATH"
        for precision in settings.precisions:
            held = forms(bundle, kind.format, precision)
            if not held:
                not_run[f"{runtime} {precision}"] = "the bundle does not hold it"
            for count in settings.threads:
                if "app" not in not_run:
                    orders = _orders(payload, settings, runtime, precision, held, count)
                    apps += [AppRun(adb, order) for order in orders]
                if runtime in tools:
                    cores = _cores(phone, settings.cores, count)
                    for step in route(bundle, kind.format, precision):
                        call = _call(payload, settings, runtime, step, cores, count)
                        stages.append(StageRun(adb, tools[runtime], step, precision, call, cores))
    if not apps and not stages:
        raise BundleError(
            "nothing is left to measure on the phone",
            hint="; ".join(f"{name}: {reason}" for name, reason in not_run.items()),
        )
    return Plan(tuple(apps), tuple(stages), not_run)


def _orders(
    payload: Payload,
    settings: Settings,
    runtime: str,
    precision: Precision,
    held: Sequence[Form],
    threads: int,
) -> list[app.Order]:
    return [
        app.Order(
            bundle=payload.bundle,
            photo=payload.photo,
            manifest_sha256=payload.sha256,
            runtime=runtime,
            form=form,
            precision=precision,
            threads=threads,
            n=settings.n,
            warmup=settings.warmup,
            request="",
        )
        for form in held
    ]


def _call(
    payload: Payload,
    settings: Settings,
    runtime: str,
    step: Step,
    cores: Sequence[int],
    threads: int,
) -> Call:
    return Call(
        folder=payload.tool(runtime),
        model=payload.model(step.model),
        entry=step.entry,
        pinned=pin(cores),
        threads=threads,
        n=settings.n,
        warmup=settings.warmup,
    )


def _cores(phone: Phone, asked: Sequence[int] | None, threads: int) -> tuple[int, ...]:
    if asked is None:
        return fastest(phone.cores, threads)
    there = [core.number for core in phone.cores]
    for core in asked:
        if core not in there:
            raise ClasskinfyError(
                f"{phone.model} has no core {core} that is on",
                hint=f"it has {', '.join(map(str, there)) or 'none that tells its clock'}",
            )
    return tuple(sorted(asked))
