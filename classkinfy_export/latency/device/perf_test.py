"""ONNX Runtime's ``onnxruntime_perf_test``: its options and its output.

As in microsoft/onnxruntime, ``onnxruntime/test/perftest``. It writes the time of every answer into
a result file, a line each (model, seconds, peak bytes, CPU percent, number), and prints percentiles
over all of them. Its own warm-up is a single answer; more are timed, and then left out.
"""

from __future__ import annotations

import re
from typing import ClassVar

from classkinfy_export.contract import FormatName
from classkinfy_export.latency.device.sample import Sample
from classkinfy_export.latency.device.tool import Call, Tool

_ANSWER = re.compile(r"^[^,\n]*,([\d.e+-]+),\d+,-?\d+,\d+$", re.MULTILINE)
_PERCENTILE = re.compile(r"^P(50|90|95|99) Latency(?::| is) ([\d.e+-]+) s", re.MULTILINE)


class PerfTest(Tool):
    """``onnxruntime_perf_test``, CPU execution provider, fed with random bytes."""

    runtime: ClassVar[str] = "onnxruntime"
    format: ClassVar[FormatName] = "onnx"
    program: ClassVar[str] = "onnxruntime_perf_test"

    def command(self, call: Call, *, watched: bool) -> str:
        """Return the command, with the session's options of ``runtimes.onnxruntime``."""
        # -I makes inputs, -S seeds them: unseeded, they are what memory holds, denormals perhaps.
        # -Z stops threads from spinning between answers.
        options = f"-e cpu -I -S 1 -m times -r {call.warmup + call.n} -x {call.threads} -y 1 -Z -s"
        return (
            f"LD_LIBRARY_PATH={call.folder} ORT_DISABLE_TELEMETRY=1 {call.pinned}"
            f"{call.folder}/{self.program} {options} {call.model} {self.answers(call.folder)}"
        )

    def answers(self, folder: str) -> str:
        """Return the result file."""
        return f"{folder}/answers.csv"

    def read(self, text: str, warmup: int) -> Sample:
        """Read the answers after the warm-up; where none are told, the printed percentiles."""
        load = _told(text, r"Session creation time cost: (\S+) s")
        first = _told(text, r"First inference time cost: (\S+) ms")
        mean = _told(text, r"Average inference time cost(?: total)?: (\S+) ms")
        count = _told(text, r"Total inference requests: (\d+)")
        if load is None or first is None or mean is None or not count:
            raise self.unreadable("'Average inference time cost'")
        peak = _told(text, r"Peak working set size: (\d+) bytes")
        latencies = tuple(float(seconds) * 1e3 for seconds in _ANSWER.findall(text))[warmup:]
        printed = {int(q): float(seconds) * 1e3 for q, seconds in _PERCENTILE.findall(text)}
        return Sample(
            answers=len(latencies) or int(count),
            load_ms=load * 1e3,
            first_ms=first,
            mean_ms=sum(latencies) / len(latencies) if latencies else mean,
            latencies_ms=latencies,
            percentiles_ms=printed,
            peak_mib=peak / 2**20 if peak is not None else None,
        )


def _told(text: str, pattern: str) -> float | None:
    found = re.search(rf"^{pattern}", text, re.MULTILINE)
    return float(found[1]) if found else None
