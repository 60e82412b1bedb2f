"""How far a tensor is from its reference: of one image, and of many in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from classkinfy_export.document import MeasuredDocument

Array = npt.NDArray[np.generic]
Gate = Literal["preprocessing", "tensors"]

_LEAST = 1e-12
"""Of a probability, under a logarithm."""


class Difference(MeasuredDocument):
    """One tensor of one image against the reference's; a NaN is infinitely far from a number."""

    largest: float
    """Absolute; infinite for another shape or dtype, and where only hashes were compared."""
    index: tuple[int, ...] = ()
    expected: float | None = None
    """The reference's value at ``index``."""
    actual: float | None = None
    elements: int = 0
    unequal: int = 0
    """Elements that differ at all."""
    total: float = 0.0
    """Sum of absolute differences."""
    signal: float = 0.0
    """Sum of the reference's squares."""
    noise: float = 0.0
    """Sum of the differences' squares."""
    product: float = 0.0
    """Sum of reference times actual."""
    power: float = 0.0
    """Sum of actual squares."""
    divergence: float | None = None
    """Kullback-Leibler, of the reference from the actual, nats; of probabilities only."""


class TensorParity(MeasuredDocument):
    """One tensor of one runtime and form against its reference, over many images."""

    runtime: str
    precision: str
    form: str
    reference: str
    """What it was seen beside: PyTorch, another runtime on the same file, golden vectors, another
    bundle, a library, or what calibration took."""
    stage: str
    """Which gives it; ``pipeline`` in the fused form."""
    tensor: str
    gate: Gate
    images: int
    tolerance: float | None
    """Largest absolute difference allowed; 0 for exact tensors; None where it is told: then any
    that is finite passes."""
    minimum_tolerance: float
    """The smallest tolerance that would have passed: the largest absolute difference seen."""
    step: float | None
    """One step of the int8 tensor that it was made of; None of what is not quantised."""
    mean_error: float
    """Mean absolute difference over all elements of all images."""
    unequal: float = 0.0
    """Share of all elements that differ at all."""
    sqnr_db: float | None
    """Signal to quantisation noise ratio; None without noise."""
    cosine: float | None
    """Of all elements of all images as one vector; None of zeros."""
    divergence: float | None
    """Largest Kullback-Leibler divergence, nats; of probabilities only."""
    worst_image: str
    worst_index: tuple[int, ...]
    expected: float | None
    actual: float | None
    passed: bool


def difference(
    expected: Array, actual: Array, *, nan_is_equal: bool = False, distribution: bool = False
) -> Difference:
    """Compare a tensor with its reference.

    Args:
        expected: the reference's.
        actual: the runtime's; another shape or dtype is an infinite difference.
        nan_is_equal: to NaN; the severity of what is not graded is NaN.
        distribution: whether the last axis holds probabilities.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return Difference(largest=math.inf)
    if expected.tobytes() == actual.tobytes() and not np.isnan(expected.astype(np.float64)).any():
        same = expected.astype(np.float64)
        square = float((same * same).sum())
        return Difference(
            largest=0.0,
            elements=same.size,
            signal=square,
            product=square,
            power=square,
            divergence=0.0 if distribution else None,
        )
    wanted, given = expected.astype(np.float64), actual.astype(np.float64)
    error = np.abs(wanted - given)
    both = np.isnan(wanted) & np.isnan(given) & nan_is_equal
    error = np.where(both, 0.0, np.where(np.isnan(error), np.inf, error))
    position = int(error.argmax())
    finite = np.isfinite(wanted) & np.isfinite(given)
    w, g = wanted[finite], given[finite]
    divergence = None
    if distribution and finite.all():
        ratio = np.log(np.maximum(w, _LEAST)) - np.log(np.maximum(g, _LEAST))
        divergence = max(float((w * ratio).sum()), 0.0)
    return Difference(
        largest=float(error.flat[position]),
        index=tuple(int(i) for i in np.unravel_index(position, error.shape)),
        expected=_number(wanted.flat[position]),
        actual=_number(given.flat[position]),
        elements=error.size,
        unequal=int((error > 0.0).sum()),
        total=float(error.sum()),
        signal=float((w * w).sum()),
        noise=float(((w - g) ** 2).sum()),
        product=float((w * g).sum()),
        power=float((g * g).sum()),
        divergence=divergence,
    )


def sqnr_db(signal: float, noise: float) -> float | None:
    """Return 10 log10(signal / noise), of sums of squares; None without either."""
    return 10.0 * math.log10(signal / noise) if signal > 0.0 and noise > 0.0 else None


def cosine(product: float, signal: float, power: float) -> float | None:
    """Return the cosine of two vectors, of their product and squares; None of zeros."""
    norm = math.sqrt(signal * power)
    return product / norm if norm > 0.0 else None


def equality(equal: bool) -> Difference:
    """Return the difference of a tensor of which only a hash is known: none, or infinite."""
    return Difference(largest=0.0 if equal else math.inf)


def summarise(
    differences: Sequence[tuple[str, Difference]],
    *,
    runtime: str,
    precision: str,
    form: str,
    reference: str,
    stage: str,
    tensor: str,
    gate: Gate,
    tolerance: float | None,
    step: float | None = None,
) -> TensorParity:
    """Give one tensor's figures over images, named, at least one."""
    name, worst = max(differences, key=lambda pair: pair[1].largest)
    every = [found for _, found in differences]
    elements = sum(found.elements for found in every)
    signal, noise = sum(f.signal for f in every), sum(f.noise for f in every)
    divergences = [f.divergence for f in every if f.divergence is not None]
    return TensorParity(
        runtime=runtime,
        precision=precision,
        form=form,
        reference=reference,
        stage=stage,
        tensor=tensor,
        gate=gate,
        images=len(every),
        tolerance=tolerance,
        minimum_tolerance=worst.largest,
        step=step,
        mean_error=sum(f.total for f in every) / elements if elements else 0.0,
        unequal=sum(f.unequal for f in every) / elements if elements else 0.0,
        sqnr_db=sqnr_db(signal, noise),
        cosine=cosine(sum(f.product for f in every), signal, sum(f.power for f in every)),
        divergence=max(divergences) if divergences else None,
        worst_image=name,
        worst_index=worst.index,
        expected=worst.expected,
        actual=worst.actual,
        passed=worst.largest < math.inf if tolerance is None else worst.largest <= tolerance,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
