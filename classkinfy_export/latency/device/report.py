"""What was measured on a phone: the host's fields, None where it does not tell, and conditions."""

from __future__ import annotations

from classkinfy_export.contract import Form
from classkinfy_export.document import Document
from classkinfy_export.latency.device.conditions import Phone, State
from classkinfy_export.latency.device.sample import StageLatency
from classkinfy_export.precision import Precision


class DeviceLatency(Document):
    """One configuration, measured: every field of the host's ``Latency``, and some more.

    The demo app runs the route as a user feels it. A tool runs a single stage at a time, so of it
    there is a sum of stages, which is named one, and no time from image to decision.
    """

    source: str
    """``app``, ``benchmark_model`` or ``onnxruntime_perf_test``."""
    runtime: str
    form: Form
    precision: Precision
    threads: int
    cores: tuple[int, ...]
    """Those that it was kept on; none for the app, which the system schedules."""
    route: str
    """The diagnosis whose grader is in the times; empty when none ran."""
    answers: int
    """Of a tool, for each stage."""
    cold_start_ms: float | None
    load_ms: float | None
    first_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    stages_p50_ms: dict[str, float | None]
    told_p50_ms: dict[str, float]
    """Of the app, from the photo's bytes until each answer is known."""
    sum_p50_ms: float | None
    """Of a tool: the stages' medians added up. No median of anything that ran."""
    sum_mean_ms: float | None
    """Of a tool: the stages' means added up."""
    peak_mib: float | None
    """Of the app; of a tool see each stage."""
    added_mib: float | None
    steady_mib: float | None
    pss_mib: float | None
    """Largest proportional set size at the end, over the rounds."""
    model_mib: float
    """Size of the model files of this runtime, form and precision, all graders included."""
    of_pytorch: None = None
    """PyTorch does not run here."""
    spread: float
    """Slowest round over the fastest: of medians, or of summed means where a tool has no median."""
    throttled: bool | None
    """Whether the phone slowed down meanwhile; None where it tells nothing to see it by."""
    noisy: bool
    """The rounds differ too much to conclude from, or the phone was throttled."""
    remarks: tuple[str, ...]
    """What was seen of throttling, by round."""
    stages: tuple[StageLatency, ...] = ()
    """Of a tool."""


class DeviceReport(Document):
    """What was measured on a phone. Everything in it is measured; nothing is estimated."""

    bundle: str
    manifest_sha256: str
    image: str
    """What the sources were given."""
    warmup: int
    rounds: int
    rows: tuple[DeviceLatency, ...]
    not_run: dict[str, str]
    conditions: dict[str, str]
    phone: Phone
    before: State
    after: State
    left_behind: str | None = None
    """The folder on the phone that could not be removed."""
