"""What one process told of one stage, and what several tell together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from classkinfy_export.document import Document


@dataclass(frozen=True)
class Sample:
    """One process of a tool, on one stage. None is what the tool does not tell."""

    answers: int
    load_ms: float
    first_ms: float
    mean_ms: float
    latencies_ms: tuple[float, ...] = ()
    """Of every answer; empty where the tool gives only statistics."""
    percentiles_ms: dict[int, float] = field(default_factory=dict)
    """Those that it gives, by percent."""
    peak_mib: float | None = None
    added_mib: float | None = None


class StageLatency(Document):
    """One stage by itself, in a tool's processes."""

    stage: str
    model: str
    """Its file in the bundle."""
    answers: int
    load_ms: float
    """Median over the rounds, as the next."""
    first_ms: float
    mean_ms: float
    """Of all answers."""
    p50_ms: float | None
    """Over all answers where the tool tells each; else the median of what it gave in each round;
    None where it gave no such percentile. So are the other percentiles."""
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    peak_mib: float | None
    """Peak resident memory of the process, as the tool reports it; of a run that is not timed, for
    watching memory takes time. So are the next two."""
    added_mib: float | None
    """Of it, what came after the tool started."""
    pss_mib: float | None
    """Peak proportional set size, sampled by the phone's shell."""


def together(
    stage: str, model: str, samples: Sequence[Sample], untimed: Sample, pss_mib: float | None
) -> StageLatency:
    """Summarise the samples of a stage.

    Args:
        stage: its name.
        model: its file.
        samples: of each round.
        untimed: of the run in which memory was watched, whose times do not count.
        pss_mib: of the same run.
    """
    counts = [sample.answers for sample in samples]
    return StageLatency(
        stage=stage,
        model=model,
        answers=sum(counts),
        load_ms=float(np.median([sample.load_ms for sample in samples])),
        first_ms=float(np.median([sample.first_ms for sample in samples])),
        mean_ms=float(np.average([sample.mean_ms for sample in samples], weights=counts)),
        p50_ms=percentile(samples, 50),
        p90_ms=percentile(samples, 90),
        p95_ms=percentile(samples, 95),
        p99_ms=percentile(samples, 99),
        peak_mib=untimed.peak_mib,
        added_mib=untimed.added_mib,
        pss_mib=pss_mib,
    )


def percentile(samples: Sequence[Sample], percent: int) -> float | None:
    """Return a percentile of samples, None where not all of them tell it."""
    if all(sample.latencies_ms for sample in samples):
        every = [latency for sample in samples for latency in sample.latencies_ms]
        return float(np.percentile(every, percent))
    if all(percent in sample.percentiles_ms for sample in samples):
        return float(np.median([sample.percentiles_ms[percent] for sample in samples]))
    return None
