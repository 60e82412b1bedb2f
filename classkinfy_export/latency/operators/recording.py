"""What a runtime's profiler gave, before it is summed up."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from classkinfy_export.latency.operators.report import Coverage
from classkinfy_export.runtimes.base import Engine


@dataclass(frozen=True)
class Recorded:
    """One operator; the fields are those of ``OperatorTime``."""

    operator: str
    node: str
    module: str | None
    kernel: str | None
    dtype: str
    shape: tuple[int, ...]
    us: tuple[int, ...]
    """Its own time in each run, microseconds."""


@dataclass(frozen=True)
class Recording:
    """One stage."""

    walls_ms: tuple[float, ...]
    """Of each run."""
    operators: tuple[Recorded, ...]
    """In running order."""
    coverage: Coverage | None


class ProfilingEngine(Engine):
    """An engine whose runtime keeps the time of every operator."""

    @abstractmethod
    def recorded(self, stage: str, runs: int) -> Recording:
        """Return what the last runs of a stage took, and profile it no more.

        Args:
            stage: one that ran.
            runs: how many; those before them were warm-up.

        Raises:
            ClasskinfyError: the profiler lost some of it.
        """
