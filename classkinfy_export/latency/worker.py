"""One configuration, measured in a fresh process: started by ``host``, prints one JSON line.

Cold start is measured from here: opening the bundle with its hashes, importing the runtime,
loading the models, the first answer. Python's own start is not in it; a phone has none.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.session import Session


def measure(
    bundle_path: str,
    image_path: str,
    runtime: str,
    form: str,
    threads: int,
    warmup: int,
    n: int,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Open, answer once, warm up, then time n answers.

    Args:
        bundle_path: the bundle.
        image_path: a ``.npy`` with uint8 [1, H, W, 3].
        runtime: its name.
        form: ``staged`` or ``fused``.
        threads: within an operator.
        warmup: answers that are not counted.
        n: answers that are.
        precision: of the models.

    Returns:
        times in ms, memory in bytes.
    """
    image = np.load(image_path)
    before = _memory()["now"]
    start = time.perf_counter()
    bundle = Bundle.open(bundle_path)
    opened = time.perf_counter()
    session = Session(
        runtimes.get(runtime).open(bundle, precision=precision, threads=threads),
        "fused" if form == "fused" else "staged",
    )
    for stage in ("pipeline",) if form == "fused" else bundle.manifest.unrouted:
        session.engine.load(stage)
    loaded = time.perf_counter()
    diagnosis = int(session.run(image)["diagnosis"][0])
    first = time.perf_counter()
    for _ in range(warmup):
        session.run(image)
    totals, stages = [], []
    for _ in range(n):
        clock: dict[str, float] = {}
        began = time.perf_counter()
        session.run(image, timings_ms=clock)
        totals.append((time.perf_counter() - began) * 1e3)
        stages.append(clock)
    memory = _memory()
    return {
        "diagnosis": diagnosis,
        "open_ms": (opened - start) * 1e3,
        "load_ms": (loaded - opened) * 1e3,
        "first_ms": (first - loaded) * 1e3,
        "cold_start_ms": (first - start) * 1e3,
        "latency_ms": totals,
        "stages_ms": {name: [clock[name] for clock in stages] for name in stages[0]},
        "peak_bytes": memory["peak"],
        "steady_bytes": memory["now"],
        "baseline_bytes": before,
    }


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
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.stdout.write(json.dumps(measure(**json.loads(sys.argv[1]))) + "\n")
