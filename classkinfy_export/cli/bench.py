"""``classkinfy bench``: what a bundle costs, on this machine and on emulated phone cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer
from pydantic import ValidationError

from classkinfy_export import runtimes as registry
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import device_tables, latency_tables, operator_tables, terminal
from classkinfy_export.cli.inspect import BundlePath
from classkinfy_export.document import explain
from classkinfy_export.errors import ClasskinfyError, GateFailedError
from classkinfy_export.frame import frame
from classkinfy_export.latency.device.bench import bench_on_device
from classkinfy_export.latency.evidence import BenchReport
from classkinfy_export.latency.host import bench
from classkinfy_export.latency.instructions import NAMES, CostReport, count
from classkinfy_export.latency.operators import profile
from classkinfy_export.latency.operators.report import ProfileReport
from classkinfy_export.precision import Precision

_PRINTED = "it is what 'classkinfy bench BUNDLE --arm64 --json' prints"


def command(
    bundle: BundlePath,
    runtimes: Annotated[
        str | None, typer.Option(help="Comma-separated; by default those that an app has.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Comma-separated; by default all that the bundle holds.")
    ] = None,
    threads: Annotated[str, typer.Option(help="Thread counts, comma-separated.")] = "1,2",
    n: Annotated[int, typer.Option("--n", min=3, help="Timed answers a configuration.")] = 60,
    warmup: Annotated[int, typer.Option(min=0, help="Answers before them, in each round.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes a configuration.")] = 6,
    photo: Annotated[
        Path | None, typer.Option(help="A photo; by default a synthetic lesion, as a JPEG.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another bundle, measured in turn: ratios, by the round.")
    ] = None,
    host: Annotated[
        bool, typer.Option("--host/--no-host", help="Measure time and memory on this machine.")
    ] = True,
    operators: Annotated[
        bool, typer.Option("--operators", help="Profile every operator too, on one thread.")
    ] = False,
    flame: Annotated[
        Path | None, typer.Option(help="An SVG of the profile, of each precision beside it.")
    ] = None,
    arm64: Annotated[
        bool, typer.Option("--arm64", help="Count instructions on emulated ARM64 cores too.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="What --arm64 --json printed before, to compare with.")
    ] = None,
    max_regression: Annotated[
        str, typer.Option(help="Most that a stage may cost more than in the baseline.")
    ] = "2%",
    adb: Annotated[
        bool, typer.Option("--adb", help="Measure on a phone instead of this machine.")
    ] = False,
    serial: Annotated[str | None, typer.Option(help="Which phone, where adb sees several.")] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(help="litert=PATH or onnxruntime=PATH: a benchmark program for --adb."),
    ] = None,
    cores: Annotated[
        str | None, typer.Option(help="Of the phone, to keep tools on; by default the fastest.")
    ] = None,
    cool_to: Annotated[
        int, typer.Option(min=0, max=6, help="Thermal status that a round waits for.")
    ] = 0,
    trusted: terminal.Trusted = None,
    json: terminal.Json = False,
) -> None:
    """Measure cold start, percentiles, memory and size; profile operators; count instructions.

    Example: [bold]classkinfy bench bundle --threads 1,2 --against other[/]

    Example: [bold]classkinfy bench bundle --no-host --operators --flame flame.svg[/]

    Example: [bold]classkinfy bench bundle --adb --tool litert=benchmark_model[/]

    Example: [bold]classkinfy bench bundle --no-host --arm64 --baseline costs.json[/]
    """
    for given, option, needed, there in (
        (baseline, "--baseline", "--arm64", arm64),
        (flame, "--flame", "--operators", operators),
        (against, "--against", "--host, and no --adb", host and not adb),
        (
            serial or tool or cores or cool_to,
            "--serial, --tool, --cores and --cool-to",
            "--adb",
            adb,
        ),
    ):
        if given and not there:
            raise ClasskinfyError(f"{option}: without {needed} there is nothing to do")
    if not (host or operators or arm64 or adb):
        raise ClasskinfyError("--no-host leaves nothing to do", hint="add --operators or --arm64")
    # All that can be wrong is found before anything is measured.
    keys = terminal.trusted(trusted)
    opened = Bundle.open(bundle, keys)
    other = None if against is None else Bundle.open(against, keys)
    native, emulated = _names(terminal.names(runtimes), arm64=arm64)
    most, before = _share(max_regression), None if baseline is None else _baseline(baseline)
    asked, counts = _precisions(precision), _counts("--threads", threads)
    kept = None if cores is None else _counts("--cores", cores, least=0)
    tools, drawn = _tools(tool or []), None if flame is None else _svg(flame)
    manifest = opened.manifest
    image = None if photo is None else frame(photo, manifest.capture, manifest.fit)
    data = None if photo is None else photo.read_bytes()
    if arm64:
        for name in emulated or NAMES[:1]:
            registry.get(name).require()
    result = BenchReport()
    with terminal.progress() as report:
        if adb:
            on_phone = bench_on_device(
                opened,
                serial,
                tools=tools,
                precisions=asked,
                threads=counts,
                cores=kept,
                n=n,
                warmup=warmup,
                rounds=rounds,
                photo=data,
                cool_to=cool_to,
                progress=report,
            )
            result = result.model_copy(update={"phone": on_phone})
        elif host and (native or not emulated):
            measured = bench(
                opened,
                against=other,
                names=native,
                precisions=asked,
                threads=counts,
                n=n,
                warmup=warmup,
                rounds=rounds,
                photo=data,
                progress=partial(report, "measuring"),
            )
            result = result.model_copy(update={"host": measured})
        if operators:
            held = dict.fromkeys(model.precision for model in manifest.models)
            profiles = tuple(
                profile(
                    opened,
                    names=native,
                    precision=one,
                    image=image,
                    progress=partial(report, f"profiling {one}"),
                )
                for one in asked or held
            )
            result = result.model_copy(update={"operators": profiles})
        if arm64:
            counted = count(opened, image, names=emulated, progress=partial(report, "counting"))
            result = result.model_copy(update={"arm64": counted})
    if json:
        document = result.model_dump(mode="json")
        terminal.emit({name: part for name, part in document.items() if part is not None})
    else:
        _show(result, before)
    if drawn is not None:
        _draw(result.operators or (), drawn)
    if not (runtimes or precision or photo or against):
        for part, name in ((result.host, "latency"), (result.arm64, "instructions")):
            if part is not None:
                terminal.keep_evidence(opened, name, part.model_dump(mode="json"))
    if before is not None and result.arm64 is not None:
        lines = result.arm64.regressions(before, most)
        if lines:
            raise GateFailedError("it costs more than before: " + "; ".join(lines))


def _names(given: list[str] | None, *, arm64: bool) -> tuple[list[str] | None, list[str] | None]:
    """Return runtimes to measure and those to count, None for those there are."""
    emulated = [name for name in given or () if name in NAMES]
    native = [name for name in given or () if name not in NAMES]
    if emulated and not arm64:
        raise ClasskinfyError(
            f"{emulated[0]} is emulated: its instructions are counted", hint="add --arm64"
        )
    return native or None, emulated or None


def _svg(path: Path) -> Path:
    if not path.name or path.is_dir() or not path.parent.is_dir():
        raise ClasskinfyError(f"--flame {path}: no file can be written there")
    return path if path.suffix else path.with_suffix(".svg")


def _draw(profiles: Sequence[ProfileReport], path: Path) -> None:
    from classkinfy_export.reporting.flame import draw

    for one in profiles:
        file = path if len(profiles) == 1 else path.with_stem(f"{path.stem}_{one.precision}")
        draw(one, file)
        terminal.note(f"profile of {one.precision}: {file}")


def _show(result: BenchReport, before: CostReport | None) -> None:
    if result.host is not None:
        latency_tables.show(result.host)
    for profiled in result.operators or ():
        operator_tables.show(profiled)
    if result.arm64 is not None:
        latency_tables.show_costs(result.arm64, before)
    if result.phone is not None:
        device_tables.show(result.phone)


def _counts(option: str, given: str, least: int = 1) -> tuple[int, ...]:
    try:
        counts = tuple(int(count) for count in given.split(","))
    except ValueError:
        raise ClasskinfyError(f"{option} {given!r} is not numbers", hint="e.g. 1,2") from None
    if min(counts) < least:
        raise ClasskinfyError(f"{option} {given!r}: at least {least}")
    return counts


def _tools(given: list[str]) -> dict[str, Path]:
    for one in given:
        if "=" not in one:
            raise ClasskinfyError(f"--tool {one!r} is no NAME=PATH", hint="litert=benchmark_model")
    return {name: Path(path) for name, _, path in (one.partition("=") for one in given)}


def _precisions(given: str | None) -> list[Precision] | None:
    known: tuple[Precision, ...] = get_args(Precision)
    asked = terminal.names(given)
    for name in asked or ():
        if name not in known:
            raise ClasskinfyError(
                f"--precision {name!r} is unknown", hint=f"known: {', '.join(known)}"
            )
    return None if asked is None else [name for name in known if name in asked]


def _baseline(path: Path) -> CostReport:
    try:
        found = BenchReport.model_validate_json(path.read_bytes()).arm64
    except OSError as error:
        raise ClasskinfyError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ClasskinfyError(
            f"{path} is no baseline: {explain(error, BenchReport)}", hint=_PRINTED
        ) from error
    if found is None:
        raise ClasskinfyError(f"{path} is no baseline: it counts no instructions", hint=_PRINTED)
    return found


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = math.nan
    # A plain 2 is more likely two percent than three times the cost.
    if not 0.0 <= share < (math.inf if text.endswith("%") else 1.0):
        raise ClasskinfyError(f"--max-regression {text!r} is no share", hint="as 2% or 0.02")
    return share
