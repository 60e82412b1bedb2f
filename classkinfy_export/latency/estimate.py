"""How long a stage would take on a phone's CPU, without the phone: estimated, never measured.

A roofline for each operator, summed: what a core needs to multiply at the share of its peak that
published runs reached with such operators, or to move its bytes, whichever is longer. Elementwise
operators, of which published runs have few, are bounded instead. The shares in ``fit.yaml`` are
fitted by ``benchmarks/estimate.py`` on latencies that others published, and the interval is as wide
as its errors on phones and networks held out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import Field

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.document import FiniteDocument
from classkinfy_export.latency import phone as phones_
from classkinfy_export.latency.phone import Phone
from classkinfy_export.latency.work import KINDS, NUMBERS, Kind, Number, Work, count
from classkinfy_export.precision import Precision

TOTAL = "prepare, screen, classify, the dearest grader"
_FIT = Path(__file__).with_name("fit.yaml")
_VECTOR_BYTES = 16.0
"""Bytes that a core with 128-bit vectors loads or stores in a cycle at best."""
_SCALAR_CYCLES = 8.0
"""Cycles for an element where a kernel computes one after the other, index arithmetic and all."""


class Efficiency(FiniteDocument):
    """The share of a core's peak that published runs reached, by what they computed in."""

    fp32: float = Field(gt=0)
    int8: float = Field(gt=0)

    def of(self, number: Number) -> float:
        """Return one of them."""
        return self.fp32 if number == "fp32" else self.int8


class HeldOut(FiniteDocument):
    """How far estimates were from published latencies that they were not fitted to."""

    median_error: float = Field(ge=0)
    """As a share: 0.2 where the median is 20 % off, up or down."""
    p90_error: float = Field(ge=0)
    coverage: float = Field(ge=0, le=1)
    """Share of them inside their interval."""
    latencies: int = Field(ge=1)


class Fit(FiniteDocument):
    """What published runs say of kernels, and how well that carries over."""

    efficiency: dict[Kind, Efficiency]
    """Of every kind but elementwise."""
    bandwidth_share: float = Field(gt=0)
    """Of the memory's bandwidth, what one thread moves."""
    parallel_share: float = Field(ge=0, le=1)
    """Of the work, what several threads share out (Amdahl's law)."""
    operator_cycles: float = Field(ge=0)
    """What an operator costs beside its work."""
    below: float = Field(gt=0, le=1)
    above: float = Field(ge=1)
    """The interval of what is fitted, as factors of the estimate."""
    phones_held_out: HeldOut
    networks_held_out: HeldOut
    both_held_out: HeldOut
    """Of a network on a phone, neither of which was fitted to: what an estimate is. The interval is
    from these errors; its coverage is of each phone by those on the others."""
    cores: tuple[str, ...]
    """Those that were fitted on; to others it is extrapolated."""
    fitted_on: str
    """How many latencies, of how many networks and phones."""

    def share(self, kind: Kind, number: Number) -> float:
        """Return the share of the peak that an operator reaches; all of it where it has none."""
        return self.efficiency[kind].of(number) if kind in self.efficiency else 1.0


class Latency(FiniteDocument):
    """An estimate, and between which latencies it may well be."""

    ms: float
    low_ms: float
    high_ms: float


class StageEstimate(FiniteDocument):
    """A stage on a phone."""

    stage: str
    routed: bool
    """Whether it runs on some photos only, as a grader."""
    latency: Latency
    macs: int
    moved_bytes: int
    fitted_share: float = Field(ge=0, le=1)
    """Of the estimate, what is for operators that published runs are full of. The rest, elementwise
    ones, is not fitted: it is the geometric mean of what a core can do at best, and of one element
    at a time on one thread."""


class PhoneEstimate(FiniteDocument):
    """A bundle on a phone."""

    phone: str
    soc: str
    core: str
    """The fastest."""
    threads: int
    """As asked, or as many as it has large cores."""
    stages: tuple[StageEstimate, ...]
    total: Latency
    """Of all the stages that run on every photo, and the dearest grader."""


class EstimateReport(FiniteDocument):
    """What ``estimate`` computed. Everything in it is estimated; nothing is measured."""

    kind: Literal["estimated"] = "estimated"
    bundle: str
    manifest_sha256: str
    precision: Precision
    formats: tuple[str, ...]
    """Of the files whose work was counted."""
    phones: tuple[PhoneEstimate, ...]
    fit: Fit
    conditions: dict[str, str]


def estimate(
    bundle: Bundle,
    phones: Sequence[str] | None = None,
    *,
    precision: Precision = "fp32",
    threads: int = 1,
) -> EstimateReport:
    """Estimate the latency of a bundle's stages on phones.

    Args:
        bundle: an opened bundle.
        phones: names of shipped ones, or paths of YAML files; all shipped ones by default.
        precision: of the models.
        threads: on a phone's large cores, fastest first; no more than it has.

    Raises:
        BundleError: the bundle does not hold the precision.
        RecipeError: a phone cannot be read.
        MissingDependencyError: the package that reads the model files is not installed.
    """
    works = [count(bundle, stage.name, precision) for stage in bundle.manifest.stages]
    unrouted = bundle.manifest.unrouted
    loaded = [phones_.load(name) for name in phones or phones_.shipped()]
    return EstimateReport(
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.sha256,
        precision=precision,
        formats=tuple(dict.fromkeys(work.format for work in works)),
        phones=tuple(
            _phone(one, works, unrouted, min(threads, one.cores), fit()) for one in loaded
        ),
        fit=fit(),
        conditions={
            "kernels": "XNNPACK's",
            "clock": "the highest of its cores: a warm phone is slower",
            "runs": "not the first one, which reads weights and packs them",
        },
    )


@cache
def fit() -> Fit:
    """Return what ``benchmarks/estimate.py`` fitted."""
    return Fit.model_validate(yaml.safe_load(_FIT.read_text(encoding="utf-8")))


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


def _phone(
    phone: Phone, works: Sequence[Work], unrouted: Sequence[str], threads: int, fitted: Fit
) -> PhoneEstimate:
    stages = []
    for work in works:
        found, share = latency(work, phone, threads, fitted)
        stages.append(
            StageEstimate(
                stage=work.stage,
                routed=work.stage not in unrouted,
                latency=found,
                macs=work.macs,
                moved_bytes=work.moved_bytes,
                fitted_share=share,
            )
        )
    always = [stage.latency for stage in stages if not stage.routed]
    graders = [stage.latency for stage in stages if stage.routed]
    ran = [*always, *sorted(graders, key=lambda one: one.ms)[-1:]]
    return PhoneEstimate(
        phone=phone.name,
        soc=phone.soc,
        core=phone.clusters[0].core,
        threads=threads,
        stages=tuple(stages),
        # What makes one stage slower than estimated does so to all: bounds add up.
        total=Latency(
            ms=math.fsum(one.ms for one in ran),
            low_ms=math.fsum(one.low_ms for one in ran),
            high_ms=math.fsum(one.high_ms for one in ran),
        ),
    )
