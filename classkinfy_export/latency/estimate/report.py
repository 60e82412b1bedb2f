"""What was estimated of a bundle on phones; nothing in it is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from classkinfy_export.document import FiniteDocument
from classkinfy_export.latency.estimate.fit import Fit
from classkinfy_export.precision import Precision

TOTAL = "prepare, screen, classify, the dearest grader"


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
