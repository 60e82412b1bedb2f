"""Latency on this machine: cold start, first answer, percentiles, memory, size.

Each configuration runs in a process of its own, several times, in turn with the others and every
other round in the reverse order, so that a machine that drifts slows all of them alike. PyTorch
runs as one configuration among them: ratios to it are what a noisy machine can still tell.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classkinfy_export import __version__, machine, runtimes
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.errors import BundleError
from classkinfy_export.latency import fresh, scope
from classkinfy_export.latency.report import (
    Against,
    Compared,
    Configuration,
    Latency,
    LatencyReport,
    Ratio,
)
from classkinfy_export.precision import Precision

Progress = Callable[[int, int], None]
Round = dict[str, Any]
"""What one process measured."""

BASELINE = "pytorch"
_TIMED = (BASELINE, "onnxruntime", "litert")
"""What an app runs, beside the baseline; others are timed when they are named."""


def bench(
    bundle: Bundle,
    *,
    against: Bundle | None = None,
    names: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    threads: Sequence[int] = (1, 2),
    n: int = 60,
    warmup: int = 5,
    rounds: int = 6,
    photo: bytes | None = None,
    progress: Progress = lambda done, total: None,
) -> LatencyReport:
    """Measure a bundle.

    Args:
        bundle: an opened bundle.
        against: another, whose same configurations are measured in turn with this one's.
        names: runtimes; None means all that are installed and that it holds a format for.
        precisions: of the models; None means all that it holds. PyTorch, the baseline, is fp32
            whatever is asked.
        threads: thread counts to measure.
        n: answers to time for each configuration, over all rounds.
        warmup: answers before them, in each round.
        rounds: fresh processes for each configuration.
        photo: encoded; None means a synthetic lesion of the capture's size, as a JPEG.
        progress: called with (done, total) processes.

    Raises:
        BundleError: no runtime can run it, it does not hold a precision, or the other bundle holds
            none of what is measured.
        ClasskinfyError: a measuring process failed.
    """
    asked = scope.precisions(bundle, precisions)
    counts = list(dict.fromkeys(threads))
    configurations, not_run = _configurations(bundle, names, asked, counts)
    if not configurations:
        raise BundleError(
            "no installed runtime can run this bundle",
            hint="; ".join(not_run.values()) or "see 'classkinfy doctor'",
        )
    others: list[Configuration] = []
    if against is not None:
        others = [c for c in configurations if _holds(against, c)]
        if all(c.runtime == BASELINE for c in others) and names != [BASELINE]:
            raise BundleError(
                f"{against.path.name} holds none of what is measured of {bundle.path.name}",
                hint="compare bundles of the same formats, forms and precisions",
            )
    load = os.getloadavg()[0]
    own: dict[Configuration, list[Round]] = {c: [] for c in configurations}
    theirs: dict[Configuration, list[Round]] = {c: [] for c in others}
    # What is compared runs one after the other.
    order = [
        (one, c, into[c])
        for c in configurations
        for one, into in ((bundle, own), (against, theirs))
        if one is not None and c in into
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"
        path.write_bytes(scope.drawn_photo(bundle) if photo is None else photo)
        for turn in range(rounds):
            for place, (one, configuration, measured) in enumerate(order[:: 1 - 2 * (turn % 2)]):
                count = n // rounds + (turn < n % rounds)
                measured.append(_spawn(one, path, configuration, warmup, max(1, count)))
                progress(turn * len(order) + place + 1, rounds * len(order))
    return LatencyReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        image="synthetic lesion" if photo is None else "given",
        warmup=warmup,
        rounds=rounds,
        rows=tuple(_row(bundle, c, measured, own) for c, measured in own.items()),
        against=None
        if against is None
        else Against(
            bundle=against.manifest.name,
            manifest_sha256=against.sha256,
            rows=tuple(
                Compared(other=_row(against, c, measured, theirs), ratio=_ratio(own[c], measured))
                for c, measured in theirs.items()
            ),
            not_compared=tuple(" ".join(map(str, c)) for c in configurations if c not in theirs),
        ),
        not_run=not_run,
        conditions=_conditions(load),
    )


def _configurations(
    bundle: Bundle,
    names: Sequence[str] | None,
    precisions: Sequence[Precision],
    threads: Sequence[int],
) -> tuple[list[Configuration], dict[str, str]]:
    found: list[Configuration] = []
    not_run = {}
    for name in names or _TIMED:
        runtime = runtimes.get(name)
        own: Sequence[Precision] = ("fp32",) if name == BASELINE else precisions
        forms = [(form, precision) for precision in own for form in _forms(bundle, name, precision)]
        if not forms:
            if names:
                not_run[name] = f"the bundle holds no {runtime.format} {', '.join(own)}"
        elif runtime.version() is None:
            not_run[name] = f"not installed: {runtime.hint()}"
        elif not runtime.in_process:
            not_run[name] = "it runs in a process of its own, and is not timed as an app's"
        else:
            found.extend(
                Configuration(name, form, precision, count)
                for form, precision in forms
                for count in threads
            )
    return found, not_run


def _forms(bundle: Bundle, runtime: str, precision: Precision) -> Iterator[Form]:
    stages = {stage for model in _models(bundle, runtime, precision) for stage in model.entries}
    if "prepare" in stages:
        yield "staged"
    if PIPELINE in stages and runtime != BASELINE:
        yield "fused"


def _holds(bundle: Bundle, configuration: Configuration) -> bool:
    runtime, form, precision, _ = configuration
    return form in _forms(bundle, runtime, precision)


def _spawn(bundle: Bundle, photo: Path, configuration: Configuration, warmup: int, n: int) -> Round:
    arguments = {
        "bundle_path": str(bundle.path.resolve()),
        "sha256": bundle.sha256,
        "photo_path": str(photo),
        **configuration._asdict(),
        "warmup": warmup,
        "n": n,
        "spawned": time.perf_counter(),
    }
    what = f"measuring {' '.join(map(str, configuration))}"
    measured: Round = json.loads(fresh.run("classkinfy_export.latency.worker", arguments, what))
    return measured


def _row(
    bundle: Bundle,
    configuration: Configuration,
    measured: Sequence[Round],
    own: Mapping[Configuration, Sequence[Round]],
) -> Latency:
    latencies = _all(measured, "latency_ms")
    p50, p90, p99 = (float(p) for p in np.percentile(latencies, (50, 90, 99)))
    medians = _medians(measured)
    spread = max(medians) / min(medians)
    runtime, form, precision, _ = configuration
    size = scope.model_bytes(bundle, runtimes.get(runtime).format, precision, form)
    baseline = own.get(Configuration(BASELINE, "staged", "fp32", configuration.threads))

    def median(name: str, less: str | None = None) -> float:
        return float(np.median([m[name] - (m[less] if less else 0) for m in measured]))

    def medians_of(name: str) -> dict[str, float]:
        clocks = [m[name] for m in measured]
        return {key: float(np.median(_all(clocks, key))) for key in clocks[0]}

    return Latency(
        **configuration._asdict(),
        route=scope.graded(bundle, int(measured[0]["diagnosis"])),
        answers=len(latencies),
        cold_start_ms=median("cold_start_ms"),
        load_ms=median("load_ms"),
        first_ms=median("first_ms"),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        stages_p50_ms=medians_of("stages_ms"),
        told_p50_ms=medians_of("told_ms"),
        peak_mib=median("peak_bytes") / 2**20,
        added_mib=median("peak_bytes", "baseline_bytes") / 2**20,
        steady_mib=median("steady_bytes", "baseline_bytes") / 2**20,
        model_mib=size / 2**20,
        of_pytorch=_ratio(measured, baseline) if baseline is not None else None,
        spread=spread,
        noisy=spread > scope.NOISE,
    )


def _ratio(ours: Sequence[Round], theirs: Sequence[Round]) -> Ratio:
    """Compare round by round: two that are taken one after the other share what the machine did."""
    pairs = zip(_medians(ours), _medians(theirs), strict=True)
    ratios = [one / other for one, other in pairs]
    return Ratio(value=float(np.median(ratios)), low=min(ratios), high=max(ratios))


def _medians(measured: Sequence[Round]) -> list[float]:
    return [float(np.median(m["latency_ms"])) for m in measured]


def _all(measured: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [value for one in measured for value in one[name]]


def _models(bundle: Bundle, runtime: str, precision: Precision) -> list[ModelFile]:
    """Return the files of a runtime's format and a precision."""
    wanted = runtimes.get(runtime).format, precision
    return [model for model in bundle.manifest.models if (model.format, model.precision) == wanted]


def _conditions(load: float) -> dict[str, str]:
    found = {
        "toolkit": __version__,
        "cpu": machine.cpu(),
        "cores": str(os.cpu_count()),
        "load_average_before": f"{load:.2f}",
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.is_file():
        found["governor"] = governor.read_text(encoding="utf-8").strip()
    found |= runtimes.versions()
    found["numpy"] = importlib.metadata.version("numpy")
    return found
