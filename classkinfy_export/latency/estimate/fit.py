"""Shares of a core's peak that published runs reached: what ``benchmarks/estimate.py`` fitted."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import Field

from classkinfy_export.document import FiniteDocument
from classkinfy_export.latency.estimate.work import Kind, Number

_SHIPPED = Path(__file__).with_name("fit.yaml")


class Efficiency(FiniteDocument):
    """The share of a core's peak that published runs reached, by what they computed in."""

    fp32: float = Field(gt=0)
    int8: float = Field(gt=0)

    def of(self, number: Number) -> float:
        """Return one of them."""
        return self.fp32 if number == "fp32" else self.int8


class HeldOut(FiniteDocument):
    """How far estimates were from published latencies that they were not fitted to."""

    median_error: float = Field(ge=0)
    """As a share: 0.2 where the median is 20 % off, up or down."""
    p90_error: float = Field(ge=0)
    coverage: float = Field(ge=0, le=1)
    """Share of them inside their interval."""
    latencies: int = Field(ge=1)


class Fit(FiniteDocument):
    """What published runs say of kernels, and how well that carries over."""

    efficiency: dict[Kind, Efficiency]
    """Of every kind but elementwise."""
    bandwidth_share: float = Field(gt=0)
    """Of the memory's bandwidth, what one thread moves."""
    parallel_share: float = Field(ge=0, le=1)
    """Of the work, what several threads share out (Amdahl's law)."""
    operator_cycles: float = Field(ge=0)
    """What an operator costs beside its work."""
    below: float = Field(gt=0, le=1)
    above: float = Field(ge=1)
    """The interval of what is fitted, as factors of the estimate."""
    phones_held_out: HeldOut
    networks_held_out: HeldOut
    both_held_out: HeldOut
    """Of a network on a phone, neither of which was fitted to: what an estimate is. The interval is
    from these errors; its coverage is of each phone by those on the others."""
    cores: tuple[str, ...]
    """Those that were fitted on; to others it is extrapolated."""
    fitted_on: str
    """How many latencies, of how many networks and phones."""

    def share(self, kind: Kind, number: Number) -> float:
        """Return the share of the peak that an operator reaches; all of it where it has none."""
        return self.efficiency[kind].of(number) if kind in self.efficiency else 1.0


@cache
def shipped() -> Fit:
    """Return what ``benchmarks/estimate.py`` fitted."""
    return Fit.model_validate(yaml.safe_load(_SHIPPED.read_text(encoding="utf-8")))
