"""Latency on this machine: cold start, first answer, percentiles, memory, size.

Each configuration runs in a process of its own, several times, in turn with the others, so that a
machine that drifts slows all of them alike. PyTorch runs as one configuration among them: ratios
to it are what a noisy machine can still tell.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classkinfy_export import __version__, machine, runtimes
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.data import synthetic
from classkinfy_export.document import Document
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.precision import Precision

Progress = Callable[[int, int], None]

BASELINE = "pytorch"
_TIMED = (BASELINE, "onnxruntime", "litert")
"""What an app runs, beside the baseline; others are timed when they are named."""
_NOISE = 1.25
"""Medians of the rounds further apart than this ratio mean that the machine was too noisy."""


class Latency(Document):
    """One configuration, measured."""

    runtime: str
    form: str
    threads: int
    route: str
    """The diagnosis of the image measured, whose grader is in the times; empty when none ran."""
    answers: int
    cold_start_ms: float
    """Median over the rounds, each a fresh process: open, load, first answer."""
    load_ms: float
    first_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    stages_p50_ms: dict[str, float]
    peak_mib: float
    """Peak resident memory of the process, interpreter and runtime included."""
    added_mib: float
    """Peak less what the process held before it opened the bundle."""
    model_mib: float
    """Size of the model files of this runtime, form and precision, all graders included."""
    speedup: float | None
    """p50 of staged PyTorch on as many threads, in the same run, over this p50."""
    spread: float
    """Slowest round's median over the fastest's."""
    noisy: bool


class LatencyReport(Document):
    """What ``bench`` measured. Everything in it is measured; nothing is estimated."""

    bundle: str
    manifest_sha256: str
    precision: Precision = "fp32"
    """Of all but the baseline, which is always fp32."""
    image: str
    warmup: int
    rounds: int
    rows: tuple[Latency, ...]
    not_run: dict[str, str]
    conditions: dict[str, str]


def bench(
    bundle: Bundle,
    *,
    names: Sequence[str] | None = None,
    precision: Precision = "fp32",
    threads: Sequence[int] = (1, 2),
    n: int = 60,
    warmup: int = 5,
    rounds: int = 3,
    image: Pixels | None = None,
    progress: Progress = lambda done, total: None,
) -> LatencyReport:
    """Measure a bundle.

    Args:
        bundle: an opened bundle.
        names: runtimes; None means all that are installed and that it holds a format for.
        precision: of the models; of PyTorch, the baseline, it is fp32 whatever is asked.
        threads: thread counts to measure.
        n: answers to time for each configuration, over all rounds.
        warmup: answers before them, in each round.
        rounds: fresh processes for each configuration.
        image: uint8 [1, H, W, 3]; None means a synthetic lesion.
        progress: called with (done, total) processes.

    Raises:
        BundleError: no runtime can run it, or it does not hold the precision.
        ClasskinfyError: a measuring process failed.
    """
    held = dict.fromkeys(model.precision for model in bundle.manifest.models)
    if precision not in held:
        raise BundleError(
            f"the bundle holds no {precision}",
            hint=f"it holds {', '.join(held)}: pass --precision, or export with another recipe",
        )
    configurations, not_run = _configurations(bundle, names, precision, threads)
    if not configurations:
        raise BundleError(
            "no installed runtime can run this bundle",
            hint="; ".join(not_run.values()) or "see 'classkinfy doctor'",
        )
    source = "given"
    if image is None:
        source = "synthetic lesion"
        drawn = synthetic.lesion("nv", seed=0, hair=0.0).image
        image = frame(drawn, bundle.manifest.capture, bundle.manifest.fit)
    results: dict[tuple[str, Form, int], list[dict[str, Any]]] = {c: [] for c in configurations}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        done, total = 0, rounds * len(configurations)
        for _ in range(rounds):
            for configuration in configurations:
                results[configuration].append(
                    _spawn(bundle, path, configuration, precision, warmup, max(1, n // rounds))
                )
                done += 1
                progress(done, total)
    baselines = {
        count: float(np.median(_all(results[BASELINE, "staged", count], "latency_ms")))
        for count in threads
        if (BASELINE, "staged", count) in results
    }
    return LatencyReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        precision=precision,
        image=source,
        warmup=warmup,
        rounds=rounds,
        rows=tuple(
            _row(bundle, key, precision, measured, baselines.get(key[2]))
            for key, measured in results.items()
        ),
        not_run=not_run,
        conditions=_conditions(),
    )


def _configurations(
    bundle: Bundle, names: Sequence[str] | None, precision: Precision, threads: Sequence[int]
) -> tuple[list[tuple[str, Form, int]], dict[str, str]]:
    found: list[tuple[str, Form, int]] = []
    not_run = {}
    for name in names or _TIMED:
        runtime = runtimes.get(name)
        held = _models(bundle, name, precision)
        if not held:
            if names:
                not_run[name] = f"the bundle holds no {runtime.format} {precision}"
            continue
        if runtime.version() is None:
            not_run[name] = f"not installed: {runtime.hint()}"
            continue
        if not runtime.in_process:
            not_run[name] = "it runs in a process of its own, and is not timed as an app's"
            continue
        stages = {stage for model in held for stage in model.entries}
        forms: list[Form] = ["staged"] if "prepare" in stages else []
        if PIPELINE in stages and name != BASELINE:
            forms.append("fused")
        found.extend((name, form, count) for form in forms for count in threads)
    return found, not_run


def _spawn(
    bundle: Bundle,
    image: Path,
    configuration: tuple[str, Form, int],
    precision: Precision,
    warmup: int,
    n: int,
) -> dict[str, Any]:
    runtime, form, threads = configuration
    arguments = {
        "bundle_path": str(bundle.path.resolve()),
        "image_path": str(image),
        "runtime": runtime,
        "form": form,
        "precision": _precision(runtime, precision),
        "threads": threads,
        "warmup": warmup,
        "n": n,
    }
    command = [sys.executable, "-m", "classkinfy_export.latency.worker", json.dumps(arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        last = finished.stderr.strip().splitlines()[-1:] or [f"exit {finished.returncode}"]
        raise ClasskinfyError(f"measuring {runtime} {form} failed: {last[0]}")
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def _row(
    bundle: Bundle,
    key: tuple[str, Form, int],
    precision: Precision,
    measured: list[dict[str, Any]],
    baseline: float | None,
) -> Latency:
    runtime, form, threads = key
    latencies = _all(measured, "latency_ms")
    p50, p90, p99 = (float(p) for p in np.percentile(latencies, (50, 90, 99)))
    medians = [float(np.median(m["latency_ms"])) for m in measured]
    spread = max(medians) / min(medians)

    def median(name: str) -> float:
        return float(np.median([m[name] for m in measured]))

    return Latency(
        runtime=runtime,
        form=form,
        threads=threads,
        route=_route(bundle, int(measured[0]["diagnosis"])),
        answers=len(latencies),
        cold_start_ms=median("cold_start_ms"),
        load_ms=median("load_ms"),
        first_ms=median("first_ms"),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        stages_p50_ms={
            stage: float(np.median(_all([m["stages_ms"] for m in measured], stage)))
            for stage in measured[0]["stages_ms"]
        },
        peak_mib=median("peak_bytes") / 2**20,
        added_mib=float(np.median([m["peak_bytes"] - m["baseline_bytes"] for m in measured]))
        / 2**20,
        model_mib=_model_bytes(bundle, runtime, form, precision) / 2**20,
        speedup=baseline / p50 if baseline is not None else None,
        spread=spread,
        noisy=spread > _NOISE,
    )


def _route(bundle: Bundle, diagnosis: int) -> str:
    graded = {stage.diagnosis for stage in bundle.manifest.stages}
    dx = bundle.manifest.taxonomy.classes[diagnosis] if diagnosis >= 0 else None
    return dx if dx is not None and dx in graded else ""


def _all(measured: list[dict[str, Any]], name: str) -> list[float]:
    return [value for one in measured for value in one[name]]


def _precision(runtime: str, asked: Precision) -> Precision:
    return "fp32" if runtime == BASELINE else asked


def _models(bundle: Bundle, runtime: str, asked: Precision) -> list[ModelFile]:
    """Return the files of a runtime's format, in the precision that it is measured in."""
    wanted = runtimes.get(runtime).format, _precision(runtime, asked)
    return [model for model in bundle.manifest.models if (model.format, model.precision) == wanted]


def _model_bytes(bundle: Bundle, runtime: str, form: Form, precision: Precision) -> int:
    paths = {
        model.path
        for model in _models(bundle, runtime, precision)
        if (PIPELINE in model.entries if form == "fused" else set(model.entries) - {PIPELINE})
    }
    return sum(bundle.manifest.files[path].size_bytes for path in paths)


def _conditions() -> dict[str, str]:
    found = {
        "toolkit": __version__,
        "cpu": machine.cpu(),
        "cores": str(os.cpu_count()),
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
