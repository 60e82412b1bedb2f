"""One configuration, measured in a fresh process: started by ``host``, prints one JSON line.

Cold start is all that a process does until its first answer: Python's start, imports, opening the
bundle with its hashes, loading the models.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.frame import frame
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.session import Session


def measure(
    bundle_path: str,
    sha256: str,
    photo_path: str,
    runtime: str,
    form: Form,
    threads: int,
    warmup: int,
    n: int,
    spawned: float,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Open, answer once, warm up, then time n answers.

    Args:
        bundle_path: the bundle.
        sha256: its id.
        photo_path: an encoded photo, of any size.
        runtime: its name.
        form: ``staged`` or ``fused``.
        threads: within an operator.
        warmup: answers that are not counted.
        n: answers that are.
        spawned: when this process was started, by ``perf_counter``, which all processes share.
        precision: of the models.

    Returns:
        times in ms, memory in bytes.
    """
    photo = Path(photo_path).read_bytes()
    before = _memory()["now"]
    start = time.perf_counter()
    bundle = Bundle.open(bundle_path, sha256=sha256)
    opened = time.perf_counter()
    engine = runtimes.get(runtime).open(bundle, precision=precision, threads=threads)
    session = Session(engine, form)
    for stage in (PIPELINE,) if form == "fused" else bundle.manifest.unrouted:
        engine.load(stage)
    loaded = time.perf_counter()
    diagnosis = int(_answer(session, photo, {})["diagnosis"][0])
    first = time.perf_counter()
    for _ in range(warmup):
        _answer(session, photo, {})
    totals, stages = [], []
    for _ in range(n):
        clock: dict[str, float] = {}
        began = time.perf_counter()
        _answer(session, photo, clock)
        totals.append((time.perf_counter() - began) * 1e3)
        stages.append(clock)
    memory = _memory()
    told = [_told(clock, bundle.manifest.unrouted) for clock in stages]
    return {
        "diagnosis": diagnosis,
        "open_ms": (opened - start) * 1e3,
        "load_ms": (loaded - opened) * 1e3,
        "first_ms": (first - loaded) * 1e3,
        "cold_start_ms": (first - spawned) * 1e3,
        "latency_ms": totals,
        "stages_ms": {name: [clock[name] for clock in stages] for name in stages[0]},
        "told_ms": {name: [clock[name] for clock in told] for name in told[0]},
        "peak_bytes": memory["peak"],
        "steady_bytes": memory["now"],
        "baseline_bytes": before,
    }


def _answer(session: Session, photo: bytes, clock: dict[str, float]) -> Mapping[str, Any]:
    began = time.perf_counter()
    image = frame(photo, session.manifest.capture, session.manifest.fit)
    clock["frame"] = (time.perf_counter() - began) * 1e3
    return session.run(image, timings_ms=clock)


def _told(clock: Mapping[str, float], unrouted: Collection[str]) -> dict[str, float]:
    """Return when each answer was known, of stages in the order in which they ran."""
    told = {}
    for stage, end in zip(clock, itertools.accumulate(clock.values()), strict=True):
        if stage == "screen":
            told["preliminary"] = end
        elif stage in ("classify", PIPELINE):
            told["diagnosis"] = end
        elif stage not in ("frame", *unrouted):
            told["severity"] = end
    return told


def _memory() -> dict[str, int]:
    """Resident memory of this process, now and at most."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        # getrusage's maximum survives exec and would show the parent's memory.
        return {
            "now": int(lines["VmRSS"].split()[0]) * 1024,
            "peak": int(lines["VmHWM"].split()[0]) * 1024,
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = peak if sys.platform == "darwin" else peak * 1024
    return {"now": peak, "peak": peak}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(**json.loads(sys.argv[1]))) + "\n")
