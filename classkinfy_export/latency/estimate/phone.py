"""Phones that latency is estimated on: their cores, and where each figure about them is from."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from classkinfy_export import safe_yaml
from classkinfy_export.document import FiniteDocument, explain
from classkinfy_export.errors import RecipeError
from classkinfy_export.latency.estimate.work import Number

_SHIPPED = Path(__file__).with_name("phones")


class Cluster(FiniteDocument):
    """Cores that are alike."""

    core: str
    count: int = Field(ge=1)
    clock_ghz: float = Field(gt=0)
    """The highest; a warm phone runs below it."""
    fp32_macs_per_cycle: float = Field(gt=0)
    int8_macs_per_cycle: float = Field(gt=0)
    clock_source: str = Field(min_length=1)
    fp32_source: str = Field(min_length=1)
    int8_source: str = Field(min_length=1)
    """A document, or ``derived: `` and from what."""

    def peak_gmacs(self, number: Number) -> float:
        """Return what one core can do at most, in 1e9 multiply-accumulates a second."""
        cycle = self.fp32_macs_per_cycle if number == "fp32" else self.int8_macs_per_cycle
        return self.clock_ghz * cycle


class Phone(FiniteDocument):
    """A phone, as far as an estimate needs it."""

    name: str = Field(min_length=1)
    soc: str = Field(min_length=1)
    bandwidth_gb_s: float = Field(gt=0)
    """Of its memory at most, in 1e9 bytes a second."""
    bandwidth_source: str = Field(min_length=1)
    clusters: tuple[Cluster, ...] = Field(min_length=1)
    """Those that an app's threads run on, fastest first; little cores are left out."""

    @model_validator(mode="after")
    def _fastest_first(self) -> Self:
        peaks = [cluster.peak_gmacs("fp32") for cluster in self.clusters]
        if peaks != sorted(peaks, reverse=True):
            raise ValueError("clusters are to stand fastest first")
        return self

    @property
    def cores(self) -> int:
        """How many threads an estimate can be for."""
        return sum(cluster.count for cluster in self.clusters)

    def speedup(self, number: Number, threads: int) -> float:
        """Return the peak of the fastest cores, as many as threads, over that of the fastest.

        Raises:
            ValueError: it has fewer cores.
        """
        peaks = [c.peak_gmacs(number) for c in self.clusters for _ in range(c.count)]
        if not 1 <= threads <= len(peaks):
            raise ValueError(f"{self.name} has {len(peaks)} large cores, not {threads}")
        return sum(peaks[:threads]) / peaks[0]


def shipped() -> tuple[str, ...]:
    """Return the names of the phones that this toolkit knows."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def load(name: str) -> Phone:
    """Read a phone.

    Args:
        name: of one that this toolkit knows, or the path of a YAML file like theirs.

    Raises:
        RecipeError: there is none, or a figure in it is missing, wrong or not known.
    """
    path = _SHIPPED / f"{name}.yaml" if name in shipped() else Path(name)
    try:
        content = safe_yaml.load(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(
            f"phone {name!r} cannot be read: {reason}",
            hint=f"give a YAML file, or one of {', '.join(shipped())}",
        ) from error
    try:
        return Phone.model_validate(content)
    except ValidationError as error:
        raise RecipeError(
            f"phone {name}: {explain(error, Phone)}", hint="correct it there"
        ) from error
