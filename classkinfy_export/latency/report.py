"""What was measured on this machine: configurations, side by side, and their ratios.

Everything in it is measured; what is estimated is in ``latency.estimate`` and never beside it.
"""

from __future__ import annotations

from typing import NamedTuple

from classkinfy_export.contract import Form
from classkinfy_export.document import Document
from classkinfy_export.precision import Precision

_HOLDS = 0.9
"""With less a range tells no difference."""


class Configuration(NamedTuple):
    """How a bundle is run."""

    runtime: str
    form: Form
    precision: Precision
    threads: int


class Ratio(Document):
    """One configuration's median over another's, the two measured in turn; below 1 is faster."""

    value: float
    """Median over the rounds of one round's median over that of the other in the same round."""
    low: float
    """The least of the rounds."""
    high: float
    """The largest."""


class Latency(Document):
    """One configuration, measured. From encoded bytes to the last answer, decoding included."""

    runtime: str
    form: Form
    precision: Precision = "fp32"
    threads: int
    route: str
    """The diagnosis of the photo measured, whose grader is in the times; empty when none ran."""
    answers: int
    cold_start_ms: float
    """Median over the rounds, each a fresh process: from its start to its first answer."""
    load_ms: float
    first_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    stages_p50_ms: dict[str, float]
    told_p50_ms: dict[str, float]
    """From the bytes on, until ``preliminary``, ``diagnosis`` and ``severity`` are known; of the
    fused form, which tells all at once, under ``diagnosis``."""
    peak_mib: float
    """Peak resident memory of the process, interpreter and runtime included."""
    added_mib: float
    """Peak less what the process held before it opened the bundle."""
    steady_mib: float
    """What it holds after the last answer, less the same."""
    model_mib: float
    """Size of the model files of this runtime, form and precision, all graders included."""
    of_pytorch: Ratio | None
    """Of staged PyTorch, fp32, on as many threads."""
    spread: float
    """Slowest round's median over the fastest's."""
    noisy: bool

    @property
    def configuration(self) -> Configuration:
        """How it was run."""
        return Configuration(self.runtime, self.form, self.precision, self.threads)


class Compared(Document):
    """A configuration of another bundle, and this one's beside it."""

    other: Latency
    ratio: Ratio
    """This bundle's time over the other's."""


class Against(Document):
    """Another bundle, measured in turn with this one."""

    bundle: str
    manifest_sha256: str
    rows: tuple[Compared, ...]
    not_compared: tuple[str, ...]
    """What it does not hold of what was measured."""


class LatencyReport(Document):
    """What ``bench`` measured."""

    bundle: str
    manifest_sha256: str
    image: str
    warmup: int
    rounds: int
    rows: tuple[Latency, ...]
    against: Against | None = None
    not_run: dict[str, str]
    conditions: dict[str, str]

    @property
    def holds(self) -> float:
        """Return with which probability an interval of a ratio holds the true median.

        The range of n independent values misses the median only where all lie on one side of it:
        2 * 0.5^n.
        """
        return 1.0 - 0.5 ** (self.rounds - 1)

    def differs(self, ratio: Ratio) -> bool:
        """Whether a ratio tells a difference: all rounds agree, and they are five or more."""
        return self.holds >= _HOLDS and not ratio.low <= 1.0 <= ratio.high
