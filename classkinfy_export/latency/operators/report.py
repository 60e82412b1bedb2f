"""What a profile tells: operators with their time and module, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from classkinfy_export.contract import Form
from classkinfy_export.document import Document
from classkinfy_export.precision import Precision

UNPLACED = "?"
"""Stands for a module that is not known."""


class OperatorTime(Document):
    """One operator, as the runtime ran it: others may have been fused into it."""

    operator: str
    """As the format calls it, ``Conv`` or ``CONV_2D``; several in one kernel, ``LOGISTIC+MUL``."""
    node: str
    """Its name in ONNX Runtime's own graph, or its place in the LiteRT file; ``?`` where XNNPACK's
    kernel is not known to be one operator's."""
    module: str | None
    """Path of the module that it computes for, as ``backbone.blocks.2.0.conv_dw``, or of the
    innermost that is known to hold it; empty for the stage's own code, None where nothing is."""
    kernel: str | None
    """As XNNPACK calls it; None of an operator that the runtime itself ran."""
    dtype: str
    """Of its first output, as is the shape."""
    shape: tuple[int, ...]
    ms: float
    """Median over the runs; what it ran inside itself, as ``If`` does, left out."""
    share: float
    """Of the time of all operators of all stages."""
    hint: str | None
    """What is known of such an operator, and what to do."""


class Total(Document):
    """Operators that have something in common."""

    name: str
    count: int
    ms: float
    share: float
    """Of the time of all operators of all stages."""


class Coverage(Document):
    """How much of a stage XNNPACK took."""

    nodes: int
    """Operators in the file."""
    delegated: int
    partitions: int
    """Parts that they are in: between two of them LiteRT's own kernels run."""
    left: dict[str, int]
    """The others, counted by operator."""


class StageProfile(Document):
    """One stage in one runtime; times are medians over the runs, ms."""

    stage: str
    wall_ms: float
    """Of runs without a profiler: tensors in, operators, tensors out."""
    profiled_ms: float
    """The same of runs with one, in turn with the others: what it has more, the profiler took."""
    operators_ms: float
    """All operators of a profiled run together. What the wall time has more is the runtime's own;
    where it has less, the profiler's work in the operators' own time is more than that."""
    noisy: bool
    """Whether a usual run took much longer than its operators usually do: other work on the machine
    interrupted it, now here, now there. What operators took is sound, what all took is not."""
    operators: tuple[OperatorTime, ...]
    """In running order."""
    coverage: Coverage | None
    """None of a runtime without a delegate."""


class RuntimeProfile(Document):
    """One runtime: the stages that one image went through, one grader at most."""

    runtime: str
    version: str
    form: Form
    stages: tuple[StageProfile, ...]
    by_operator: tuple[Total, ...]
    """The dearest first, as in the next."""
    by_module: tuple[Total, ...]
    """Named ``stage: module``."""

    @property
    def wall_ms(self) -> float:
        """Wall time of all stages together, without a profiler."""
        return sum(stage.wall_ms for stage in self.stages)

    def dearest(self, count: int = 10) -> list[tuple[str, OperatorTime]]:
        """Return the operators that took longest, each with its stage.

        Args:
            count: how many.
        """
        found = [(stage.stage, row) for stage in self.stages for row in stage.operators]
        return sorted(found, key=lambda pair: -pair[1].ms)[:count]


class ProfileReport(Document):
    """What ``profile`` measured."""

    bundle: str
    manifest_sha256: str
    precision: Precision
    image: str
    threads: int
    warmup: int
    n: int
    """Runs in each median."""
    runtimes: tuple[RuntimeProfile, ...]
    not_run: dict[str, str]
    conditions: dict[str, str]


def summed(stages: Iterable[StageProfile]) -> tuple[tuple[Total, ...], tuple[Total, ...]]:
    """Add up operators by their kind, and by stage and module.

    Args:
        stages: of one runtime.
    """
    rows = [(stage.stage, row) for stage in stages for row in stage.operators]

    def by(name: Callable[[str, OperatorTime], str]) -> tuple[Total, ...]:
        groups: dict[str, list[OperatorTime]] = {}
        for stage, row in rows:
            groups.setdefault(name(stage, row), []).append(row)
        totals = [
            Total(
                name=key,
                count=len(group),
                ms=sum(row.ms for row in group),
                share=sum(row.share for row in group),
            )
            for key, group in groups.items()
        ]
        return tuple(sorted(totals, key=lambda total: -total.ms))

    return by(lambda _, row: row.operator), by(lambda stage, row: f"{stage}: {placed(row)}")


def placed(row: OperatorTime) -> str:
    """Return an operator's module to be read: ``?`` where it is not known."""
    return UNPLACED if row.module is None else row.module or "(stage)"
