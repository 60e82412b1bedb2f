"""One configuration's processes over the rounds, and the row that they make."""

from __future__ import annotations

import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from classkinfy_export.latency import scope
from classkinfy_export.latency.device import app
from classkinfy_export.latency.device.adb import Adb
from classkinfy_export.latency.device.report import DeviceLatency
from classkinfy_export.latency.device.route import Step
from classkinfy_export.latency.device.sample import Sample, StageLatency, together
from classkinfy_export.latency.device.tool import Call, Tool, peak_pss_mib
from classkinfy_export.precision import Precision

_MOST_S = 5.0
"""For a single answer, before a process is given up."""


class Run(ABC):
    """What is measured once in every round, in a process of its own each time.

    Args:
        adb: the phone.
        label: for progress.
        cores: those that it is kept on; none means any.
    """

    def __init__(self, adb: Adb, label: str, cores: Sequence[int]) -> None:
        self.adb = adb
        self.label = label
        self.cores = tuple(cores)
        self.remarks: list[str] = []

    @abstractmethod
    def measure(self) -> None:
        """Measure it once more."""


class StageRun(Run):
    """A stage in a tool.

    Args:
        adb: the phone.
        tool: the tool.
        step: the stage.
        precision: of its model file.
        call: how the tool is called.
        cores: those in the call.
    """

    def __init__(
        self,
        adb: Adb,
        tool: Tool,
        step: Step,
        precision: Precision,
        call: Call,
        cores: Sequence[int],
    ) -> None:
        super().__init__(adb, f"{tool.program} {step.stage}", cores)
        self.tool = tool
        self.step = step
        self.precision = precision
        self.call = call
        self.samples: list[Sample] = []

    def measure(self) -> None:
        """Measure it once more."""
        self.samples.append(self._read(self.tool.timed(self.call))[0])

    def summary(self) -> StageLatency:
        """Run it once more to watch its memory, and summarise."""
        untimed, text = self._read(self.tool.watched(self.call))
        return together(self.step.stage, self.step.model, self.samples, untimed, peak_pss_mib(text))

    def _read(self, command: str) -> tuple[Sample, str]:
        text = self.adb.shell(command, 60.0 + _MOST_S * (self.call.warmup + self.call.n))
        return self.tool.read(text, self.call.warmup), text


class AppRun(Run):
    """A configuration of the demo app.

    Args:
        adb: the phone.
        order: what it is to measure.
    """

    def __init__(self, adb: Adb, order: app.Order) -> None:
        super().__init__(adb, f"app {order.runtime} {order.form}", ())
        self.order = order
        self.results: list[app.AppMeasurement] = []
        self.versions: dict[str, str] = {}

    def measure(self) -> None:
        """Measure it once more."""
        # No two starts share a name, so that no older file can be taken for an answer.
        order = self.order._replace(request=uuid.uuid4().hex)
        result, measurement = app.measure(self.adb, order)
        self.versions = {"app": result.app, f"app {order.runtime}": result.runtime}
        self.results.append(measurement)


def app_row(run: AppRun, route: str, model_mib: float, visible: bool) -> DeviceLatency:
    """Return the row of a configuration of the app, summarised as the host's are."""
    results = run.results
    every = [latency for result in results for latency in result.latency_ms]
    p50, p90, p99 = (float(value) for value in np.percentile(every, (50, 90, 99)))
    spread = _spread([float(np.median(result.latency_ms)) for result in results])

    def median(values: Sequence[float]) -> float:
        return float(np.median(values))

    def medians(clocks: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
        return {name: median([ms for clock in clocks for ms in clock[name]]) for name in clocks[0]}

    return DeviceLatency(
        source="app",
        runtime=run.order.runtime,
        form=run.order.form,
        precision=run.order.precision,
        threads=run.order.threads,
        cores=(),
        route=route,
        answers=len(every),
        cold_start_ms=median([result.cold_start_ms for result in results]),
        load_ms=median([result.load_ms for result in results]),
        first_ms=median([result.first_ms for result in results]),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        stages_p50_ms=dict(medians([result.stages_ms for result in results])),
        told_p50_ms=medians([result.told_ms for result in results]),
        sum_p50_ms=None,
        sum_mean_ms=None,
        peak_mib=median([result.peak_bytes for result in results]) / 2**20,
        added_mib=median([r.peak_bytes - r.baseline_bytes for r in results]) / 2**20,
        steady_mib=median([r.steady_bytes - r.baseline_bytes for r in results]) / 2**20,
        pss_mib=max(result.pss_bytes for result in results) / 2**20,
        model_mib=model_mib,
        spread=spread,
        throttled=bool(run.remarks) if visible else None,
        noisy=spread > scope.NOISE or bool(run.remarks),
        remarks=tuple(run.remarks),
    )


def tool_row(runs: Sequence[StageRun], model_mib: float, visible: bool) -> DeviceLatency:
    """Return the row of a tool and thread count: its stages, each by itself, and their sums."""
    stages = tuple(run.summary() for run in runs)
    medians = {stage.stage: stage.p50_ms for stage in stages}
    known = [median for median in medians.values() if median is not None]
    rounds = zip(*(run.samples for run in runs), strict=True)
    spread = _spread([math.fsum(_middle(sample) for sample in samples) for samples in rounds])
    found = tuple(f"{run.step.stage}: {remark}" for run in runs for remark in run.remarks)
    first = runs[0]
    return DeviceLatency(
        source=first.tool.program,
        runtime=first.tool.runtime,
        form="staged",
        precision=first.precision,
        threads=first.call.threads,
        cores=first.cores,
        route=next((run.step.diagnosis for run in runs if run.step.diagnosis), ""),
        answers=min(stage.answers for stage in stages),
        cold_start_ms=None,
        load_ms=None,
        first_ms=None,
        p50_ms=None,
        p90_ms=None,
        p99_ms=None,
        stages_p50_ms=medians,
        told_p50_ms={},
        sum_p50_ms=math.fsum(known) if len(known) == len(medians) else None,
        sum_mean_ms=math.fsum(stage.mean_ms for stage in stages),
        peak_mib=None,
        added_mib=None,
        steady_mib=None,
        pss_mib=None,
        model_mib=model_mib,
        spread=spread,
        throttled=bool(found) if visible else None,
        noisy=spread > scope.NOISE or bool(found),
        remarks=found,
        stages=stages,
    )


def _middle(sample: Sample) -> float:
    if sample.latencies_ms:
        return float(np.median(sample.latencies_ms))
    return sample.percentiles_ms.get(50, sample.mean_ms)


def _spread(rounds: Sequence[float]) -> float:
    return max(rounds) / min(rounds)
