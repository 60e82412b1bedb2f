"""One runtime, profiled in a fresh process: started by ``profile``, prints one JSON line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.errors import BundleError
from classkinfy_export.latency.operators import hints
from classkinfy_export.latency.operators.litert import ProfiledLitert
from classkinfy_export.latency.operators.onnxruntime import ProfiledOnnx
from classkinfy_export.latency.operators.recording import ProfilingEngine, Recorded, Recording
from classkinfy_export.latency.operators.report import (
    OperatorTime,
    RuntimeProfile,
    StageProfile,
    summed,
)
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.session import Session

_NOISE = 1.25
"""All operators of a run over the sum of each one's median, from which on a stage is noisy."""
_RESOLUTION_MS = 1e-3
"""Of a profiler: a median may be less than the mean by as much."""


def measure(
    bundle_path: str,
    sha256: str,
    folder: str,
    runtime: str,
    precision: Precision,
    threads: int,
    warmup: int,
    n: int,
) -> RuntimeProfile:
    """Answer with a profiler and without in turn, and sum up what the first told.

    Args:
        bundle_path: the bundle.
        sha256: its id.
        folder: has ``image.npy``, uint8 [1, H, W, 3]; for what the profiler writes.
        runtime: ``onnxruntime`` or ``litert``.
        precision: of the models.
        threads: within an operator.
        warmup: answers that are not counted.
        n: answers that are.
    """
    image = np.load(Path(folder) / "image.npy")
    bundle = Bundle.open(bundle_path, sha256=sha256)
    chosen = runtimes.get(runtime)
    staged = bundle.manifest.find_model("prepare", chosen.format, precision) is not None
    form: Form = "staged" if staged else "fused"
    walls: list[dict[str, float]] = []
    with (
        chosen.open(bundle, precision=precision, threads=threads) as plain,
        _profiled(runtime, bundle, precision, threads, Path(folder)) as engine,
    ):
        for run in range(warmup + n):
            clock: dict[str, float] = {}
            Session(plain, form).run(image, timings_ms=clock)
            Session(engine, form).run(image)
            if run >= warmup:
                walls.append(clock)
        recordings = {stage: engine.recorded(stage, n) for stage in walls[0]}
    us = [row.us for recording in recordings.values() for row in recording.operators]
    whole_ms = sum(float(np.median(runs)) for runs in us) / 1e3
    stages = tuple(
        _stage(runtime, stage, [clock[stage] for clock in walls], recording, whole_ms)
        for stage, recording in recordings.items()
    )
    by_operator, by_module = summed(stages)
    return RuntimeProfile(
        runtime=runtime,
        version=chosen.version() or "",
        form=form,
        stages=stages,
        by_operator=by_operator,
        by_module=by_module,
    )


def _profiled(
    runtime: str, bundle: Bundle, precision: Precision, threads: int, folder: Path
) -> ProfilingEngine:
    if runtime == "onnxruntime":
        return ProfiledOnnx(bundle, precision, threads, folder)
    if runtime == "litert":
        return ProfiledLitert(bundle, precision, threads)
    raise BundleError(f"{runtime} has no profiler", hint="onnxruntime and litert have")


def _stage(
    runtime: str, stage: str, walls_ms: list[float], recording: Recording, whole_ms: float
) -> StageProfile:
    runs = zip(*(row.us for row in recording.operators), strict=True)
    rows = tuple(_row(runtime, row, whole_ms) for row in recording.operators)
    operators_ms = float(np.median([sum(run) for run in runs])) / 1e3
    return StageProfile(
        stage=stage,
        wall_ms=float(np.median(walls_ms)),
        profiled_ms=float(np.median(recording.walls_ms)),
        operators_ms=operators_ms,
        noisy=operators_ms > _NOISE * sum(row.ms for row in rows) + _RESOLUTION_MS * len(rows),
        operators=rows,
        coverage=recording.coverage,
    )


def _row(runtime: str, row: Recorded, whole_ms: float) -> OperatorTime:
    ms = float(np.median(row.us)) / 1e3
    return OperatorTime(
        operator=row.operator,
        node=row.node,
        module=row.module,
        kernel=row.kernel,
        dtype=row.dtype,
        shape=row.shape,
        ms=ms,
        share=ms / whole_ms,
        hint=hints.hint(runtime, row),
    )


if __name__ == "__main__":
    sys.stdout.write(measure(**json.loads(sys.argv[1])).model_dump_json() + "\n")
