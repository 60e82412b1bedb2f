"""A roofline for each operator, summed: how long work takes on a core.

What a core needs to multiply at the share of its peak that published runs reached with such
operators, or to move its bytes, whichever is longer (Williams, Waterman and Patterson, 2009).
Elementwise operators, of which published runs have few, are bounded instead.
"""

from __future__ import annotations

import numpy as np

from classkinfy_export.latency.estimate.fit import Fit
from classkinfy_export.latency.estimate.phone import Phone
from classkinfy_export.latency.estimate.report import Latency
from classkinfy_export.latency.estimate.work import KINDS, NUMBERS, Work

_VECTOR_BYTES = 16.0
"""Bytes that a core with 128-bit vectors loads or stores in a cycle at best."""
_SCALAR_CYCLES = 8.0
"""Cycles for an element where a kernel computes one after the other, index arithmetic and all."""


def latency(work: Work, phone: Phone, threads: int, fitted: Fit) -> tuple[Latency, float]:
    """Return the latency of some work, and the share of it that is fitted."""
    loads, core = work.loads, phone.clusters[0]
    shares = np.array([[fitted.share(kind, number) for number in NUMBERS] for kind in KINDS])
    peaks = np.array([core.peak_gmacs(number) for number in NUMBERS])
    faster = np.array(
        [_amdahl(fitted.parallel_share, phone.speedup(number, threads)) for number in NUMBERS]
    )[loads.number]
    # All in nanoseconds: clocks are in gigahertz, bandwidth and peaks in 1e9 a second.
    beside = fitted.operator_cycles / core.clock_ghz / faster
    multiplying = loads.macs / (peaks[loads.number] * shares[loads.kind, loads.number])
    moving = loads.moved_bytes / (phone.bandwidth_gb_s * fitted.bandwidth_share)
    fitted_ns = np.maximum(multiplying, moving) / faster + beside
    # Elementwise kernels may share their work out, or not.
    fastest = loads.moved_bytes / _VECTOR_BYTES / core.clock_ghz / faster + beside
    slowest = loads.elements * _SCALAR_CYCLES / core.clock_ghz + beside
    slowest = np.maximum(fastest, slowest)
    bounded = loads.kind == KINDS.index("elementwise")
    known = float(fitted_ns[~bounded].sum()) / 1e6
    low, middle, high = (
        float(ns[bounded].sum()) / 1e6 for ns in (fastest, np.sqrt(fastest * slowest), slowest)
    )
    found = Latency(
        ms=known + middle,
        low_ms=known * fitted.below + low,
        high_ms=known * fitted.above + high,
    )
    return found, known / found.ms if found.ms else 1.0


def _amdahl(parallel: float, speedup: float) -> float:
    return 1.0 / (1.0 - parallel + parallel / speedup)
