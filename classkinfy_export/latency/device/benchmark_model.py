"""LiteRT's ``benchmark_model``: its flags and its output.

As in google-ai-edge/LiteRT, ``tflite/tools/benchmark``: times are whole microseconds. Newer
versions end the line of statistics with the 5th, 50th and 95th percentile, older ones give none. It
never tells single answers, so there is no 90th and no 99th.
"""

from __future__ import annotations

import re
from typing import ClassVar

from classkinfy_export.contract import FormatName
from classkinfy_export.latency.device.sample import Sample
from classkinfy_export.latency.device.tool import Call, Tool

_STATISTICS = re.compile(r"count=(\d+) (.*)")
_TIMINGS = re.compile(
    r"Inference timings in us: Init: (\S+), First inference: (\S+), "
    r"Warmup \(avg\): (\S+), Inference \(avg\): (\S+)"
)
_ADDED = re.compile(r"(?:Memory footprint delta.*|Peak memory footprint \(MB\)): .*overall=(\S+)")
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: (\S+)")


class BenchmarkModel(Tool):
    """``benchmark_model``, on the CPU with XNNPACK, fed with random bytes."""

    runtime: ClassVar[str] = "litert"
    format: ClassVar[FormatName] = "litert"
    program: ClassVar[str] = "benchmark_model"

    def command(self, call: Call, *, watched: bool) -> str:
        """Return the command; warm-up takes half a second at least, the tool's default."""
        flags = {
            "graph": call.model,
            "signature_to_run_for": call.entry,
            "num_threads": call.threads,
            "use_xnnpack": "true",
            "num_runs": call.n,
            # By default it would add answers until a second is over.
            "min_secs": 0,
            "warmup_runs": max(1, call.warmup),
            "report_peak_memory_footprint": str(watched).lower(),
        }
        given = " ".join(f"--{name}={value}" for name, value in flags.items())
        return f"LD_LIBRARY_PATH={call.folder} {call.pinned}{call.folder}/{self.program} {given}"

    def read(self, text: str, warmup: int) -> Sample:
        """Read the line of statistics that follows the warm-up's, and the summary."""
        summary = _TIMINGS.search(text)
        lines = _STATISTICS.findall(text[: summary.start()]) if summary else []
        if summary is None or len(lines) < 2:
            raise self.unreadable("'Inference timings in us'")
        count, rest = lines[-1]
        told = {name: float(value) / 1e3 for name, value in re.findall(r"(\w+)=([\d.e+]+)", rest)}
        if "avg" not in told:  # all alike: "count=3 curr=97(all same)"
            told |= dict.fromkeys(("avg", "median", "p95"), told["curr"])
        names = {50: "median", 95: "p95"}
        peak, added = _PEAK.search(text), _ADDED.search(text)
        return Sample(
            answers=int(count),
            load_ms=float(summary[1]) / 1e3,
            first_ms=float(summary[2]) / 1e3,
            mean_ms=told["avg"],
            percentiles_ms={q: told[name] for q, name in names.items() if name in told},
            peak_mib=float(peak[1]) if peak else None,
            added_mib=float(added[1]) if added else None,
        )
