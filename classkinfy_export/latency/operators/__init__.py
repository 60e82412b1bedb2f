"""Where the time goes: every operator of every stage, with the module that it computes for.

ONNX Runtime's own profiler, and LiteRT's with XNNPACK's kernels in it. Each runtime is profiled in
a process of its own; only the grader runs that the image is routed to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from classkinfy_export import __version__, machine, runtimes
from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.errors import BundleError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.latency import fresh
from classkinfy_export.latency.operators.report import (
    Coverage,
    OperatorTime,
    ProfileReport,
    RuntimeProfile,
    StageProfile,
    Total,
)
from classkinfy_export.precision import Precision

__all__ = [
    "NAMES",
    "Coverage",
    "OperatorTime",
    "ProfileReport",
    "RuntimeProfile",
    "StageProfile",
    "Total",
    "profile",
]

NAMES = ("onnxruntime", "litert")
"""Runtimes that have a profiler."""
_WORKER = f"{__name__}.worker"


def profile(
    bundle: Bundle,
    *,
    names: Sequence[str] | None = None,
    precision: Precision = "fp32",
    threads: int = 1,
    n: int = 30,
    warmup: int = 5,
    image: Pixels | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ProfileReport:
    """Profile a bundle's operators.

    Args:
        bundle: an opened bundle.
        names: of ``NAMES``; None means all that are installed and that it holds a format for.
        precision: of the models.
        threads: within an operator.
        n: runs that each time is the median of.
        warmup: runs before them.
        image: uint8 [1, H, W, 3]; None means a synthetic lesion.
        progress: called with (done, total) runtimes.

    Raises:
        BundleError: a runtime has no profiler, or none can run the bundle.
        ClasskinfyError: a profiling process failed.
    """
    found, not_run = _runtimes(bundle, names, precision)
    if not found:
        raise BundleError(
            f"no runtime with a profiler can run this bundle in {precision}",
            hint="; ".join(not_run.values()),
        )
    load = os.getloadavg()[0]  # before this adds to it
    source = "given"
    if image is None:
        source = "synthetic lesion"
        drawn = synthetic.lesion("nv", seed=0, hair=0.0).image
        image = frame(drawn, bundle.manifest.capture, bundle.manifest.fit)
    profiles = []
    for done, name in enumerate(found):
        progress(done, len(found))
        profiles.append(_spawn(bundle, image, name, precision, threads, warmup, n))
    progress(len(found), len(found))
    return ProfileReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        precision=precision,
        image=source,
        threads=threads,
        warmup=warmup,
        n=n,
        runtimes=tuple(profiles),
        not_run=not_run,
        conditions={
            "toolkit": __version__,
            "cpu": machine.cpu(),
            "cores": str(os.cpu_count()),
            "load_average": f"{load:.2f}",
            "resolution": "1 µs: what takes less counts as nothing",
            "litert": "a compiled model of libLiteRt with XNNPACK, which times its own kernels",
        },
    )


def _runtimes(
    bundle: Bundle, names: Sequence[str] | None, precision: Precision
) -> tuple[list[str], dict[str, str]]:
    found, not_run = [], {}
    for name in names or NAMES:
        if name not in NAMES:
            raise BundleError(f"{name} has no profiler", hint=f"these have: {', '.join(NAMES)}")
        runtime = runtimes.get(name)
        whole = (
            bundle.manifest.find_model(stage, runtime.format, precision)
            for stage in ("prepare", PIPELINE)
        )
        if not any(whole):
            not_run[name] = f"the bundle holds no {runtime.format} {precision}"
        elif runtime.version() is None:
            not_run[name] = f"not installed: {runtime.hint()}"
        else:
            found.append(name)
    return found, not_run


def _spawn(
    bundle: Bundle,
    image: Pixels,
    runtime: str,
    precision: Precision,
    threads: int,
    warmup: int,
    n: int,
) -> RuntimeProfile:
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "image.npy", image)
        arguments = {
            "bundle_path": str(bundle.path.resolve()),
            "sha256": bundle.sha256,
            "folder": folder,
            "runtime": runtime,
            "precision": precision,
            "threads": threads,
            "warmup": warmup,
            "n": n,
        }
        said = fresh.run(_WORKER, arguments, f"profiling {runtime}")
    return RuntimeProfile.model_validate_json(said)
