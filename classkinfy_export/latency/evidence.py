"""What every way to measure a bundle gave, in one document: the JSON that ``bench`` prints."""

from __future__ import annotations

from classkinfy_export.document import Document
from classkinfy_export.latency.device.report import DeviceReport
from classkinfy_export.latency.instructions import CostReport
from classkinfy_export.latency.operators.report import ProfileReport
from classkinfy_export.latency.report import LatencyReport


class BenchReport(Document):
    """What ``bench --json`` prints: of each way to measure what it gave, None where not asked."""

    host: LatencyReport | None = None
    operators: tuple[ProfileReport, ...] | None = None
    """One of each precision."""
    arm64: CostReport | None = None
    phone: DeviceReport | None = None
