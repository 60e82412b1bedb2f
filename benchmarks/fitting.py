"""Fitting kernels' efficiency to published latencies, and checking it on those held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.progress import track
from scipy.optimize import least_squares

from classkinfy_export.latency.estimate import roofline
from classkinfy_export.latency.estimate.fit import Efficiency, Fit, HeldOut
from classkinfy_export.latency.estimate.phone import Phone
from classkinfy_export.latency.estimate.work import Number, Work

Floats = npt.NDArray[np.float64]
COVERAGE = 0.8
"""Of the intervals."""


@dataclass(frozen=True)
class Point:
    """A published latency, and what it was of."""

    source: str
    kernels: str
    network: str
    family: str
    number: Number
    phone: str
    threads: int
    ms: float
    work: Work
    device: Phone


class Parameter(NamedTuple):
    """Something that is fitted, as its logarithm."""

    name: str
    start: float
    least: float
    most: float


PARAMETERS = (
    Parameter("convolution fp32", 0.6, 0.02, 1.0),
    Parameter("convolution int8", 0.6, 0.02, 1.0),
    Parameter("pointwise fp32", 0.7, 0.02, 1.0),
    Parameter("pointwise int8", 0.6, 0.02, 1.0),
    Parameter("depthwise fp32", 0.3, 0.02, 1.0),
    Parameter("depthwise int8", 0.2, 0.02, 1.0),
    Parameter("bandwidth", 0.5, 0.05, 4.0),
    Parameter("serial", 0.05, 0.001, 0.5),
    Parameter("cycles", 2000.0, 100.0, 20000.0),
    Parameter("builtin", 1.3, 0.5, 4.0),
)
PULL = 0.15
"""To where a parameter starts: no network is all of one kind, so the latencies alone would let one
kind of operator pay for another."""


class Fitted(NamedTuple):
    """Values of the parameters, by name."""

    values: Mapping[str, float]

    def document(
        self,
        below: float = 1.0,
        above: float = 1.0,
        cores: tuple[str, ...] = (),
        fitted_on: str = "",
    ) -> Fit:
        """Return them as they are shipped; how they do where held out is not known yet."""
        of = self.values
        shares = {
            kind: Efficiency(fp32=of[f"{kind} fp32"], int8=of[f"{kind} int8"])
            for kind in ("convolution", "pointwise", "depthwise")
        }
        unknown = HeldOut(median_error=0, p90_error=0, coverage=0, latencies=1)
        held = dict.fromkeys(("phones_held_out", "networks_held_out", "both_held_out"), unknown)
        # A product of matrices is a convolution of 1x1 to a core, and rare in these networks.
        return Fit(
            efficiency={**shares, "matrix": shares["pointwise"]},
            bandwidth_share=of["bandwidth"],
            parallel_share=1.0 - of["serial"],
            operator_cycles=of["cycles"],
            below=below,
            above=above,
            cores=cores,
            fitted_on=fitted_on,
            **held,
        )

    def ms(self, point: Point, document: Fit) -> float:
        """Estimate a published latency, with the kernels that it was measured with."""
        found, _ = roofline.latency(point.work, point.device, point.threads, document)
        return found.ms * (self.values["builtin"] if point.kernels == "builtin" else 1.0)


def fit(points: Sequence[Point]) -> Fitted:
    """Fit the parameters to some latencies."""
    groups = pd.Series([(p.source, p.family, p.phone, p.number, p.threads) for p in points])
    weights = np.sqrt(1.0 / groups.map(groups.value_counts()).to_numpy(np.float64))

    def values(logarithms: Floats) -> Fitted:
        return Fitted(
            {p.name: float(np.exp(v)) for p, v in zip(PARAMETERS, logarithms, strict=True)}
        )

    start = np.log([p.start for p in PARAMETERS])

    def residuals(logarithms: Floats) -> Floats:
        off = weights * errors(points, values(logarithms))
        return np.concatenate([off, PULL * (logarithms - start)])

    found = least_squares(
        residuals,
        start,
        bounds=(np.log([p.least for p in PARAMETERS]), np.log([p.most for p in PARAMETERS])),
        loss="soft_l1",
        f_scale=0.2,
        diff_step=1e-3,
        xtol=1e-4,
        ftol=1e-5,
    )
    return values(found.x)


def errors(points: Sequence[Point], fitted: Fitted) -> Floats:
    """Return the logarithm of published over estimated."""
    document = fitted.document()
    return np.array([np.log(p.ms / fitted.ms(p, document)) for p in points])


def held_out(
    points: Sequence[Point], key: Callable[[Point], tuple[str, ...]], what: str
) -> pd.DataFrame:
    """Return errors of points where none was fitted to that shares a part of their key."""
    found = []
    for group in track(sorted({key(point) for point in points}), what):
        away = [p for p in points if key(p) == group]
        seen = [p for p in points if all(a != b for a, b in zip(key(p), group, strict=True))]
        fitted = fit(seen)
        for point, error in zip(away, errors(away, fitted), strict=True):
            found.append({"point": point, "error": error})
    return pd.DataFrame(found)


def summary(found: pd.DataFrame, document: Fit) -> HeldOut:
    """Return how far off held-out estimates were, and how many within their interval."""
    off = np.expm1(found["error"].abs())
    inside = [
        interval(point, error, document)
        for point, error in zip(found["point"], found["error"], strict=True)
    ]
    return HeldOut(
        median_error=float(off.median()),
        p90_error=float(off.quantile(0.9)),
        coverage=float(np.mean(inside)),
        latencies=len(found),
    )


def interval(point: Point, error: float, document: Fit) -> bool:
    """Tell whether a published latency is within the interval of an estimate that is off by so."""
    found, _ = roofline.latency(point.work, point.device, point.threads, document)
    return bool(found.low_ms / found.ms <= np.exp(error) <= found.high_ms / found.ms)


def factors(found: pd.DataFrame) -> tuple[float, float]:
    """Return the interval's factors: where the middle of the errors lies, phones weighing alike."""
    phones = found["point"].map(lambda point: point.phone)
    ordered = found.assign(weight=1.0 / phones.map(phones.value_counts())).sort_values("error")
    reached = ordered["weight"].cumsum() / ordered["weight"].sum()
    tail = (1.0 - COVERAGE) / 2.0
    low = ordered["error"][reached >= tail].iloc[0]
    high = ordered["error"][reached >= 1.0 - tail].iloc[0]
    return min(1.0, float(np.exp(low))), max(1.0, float(np.exp(high)))


def coverage(found: pd.DataFrame, fitted: Fitted) -> float:
    """Return the share within intervals that are each from the errors on the other phones."""
    phones = found["point"].map(lambda point: point.phone)
    inside = []
    for phone in phones.unique():
        below, above = factors(found[phones != phone])
        document = fitted.document(below=below, above=above)
        here = found[phones == phone]
        inside += [
            interval(point, error, document)
            for point, error in zip(here["point"], here["error"], strict=True)
        ]
    return float(np.mean(inside))
