"""How far a tensor is from its reference, over many images, in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Array = npt.NDArray[np.generic]


class TensorParity(BaseModel):
    """One tensor of one runtime and form against the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    form: str
    tensor: str
    images: int
    tolerance: float
    """Largest absolute difference allowed; 0 for exact tensors."""
    minimum_tolerance: float
    """The smallest tolerance that would have passed: the largest absolute difference seen."""
    mean_error: float
    """Mean absolute difference over all elements of all images."""
    worst_image: str
    worst_index: tuple[int, ...]
    expected: float | None
    actual: float | None
    passed: bool


@dataclass
class Accumulator:
    """Differences of one tensor, image after image.

    A NaN is infinitely far from everything, but from a NaN where ``nan_is_equal``: the severity of
    what is not graded.
    """

    runtime: str
    form: str
    tensor: str
    tolerance: float
    nan_is_equal: bool = False
    images: int = 0
    elements: int = 0
    total: float = 0.0
    largest: float = -1.0
    worst_image: str = ""
    worst_index: tuple[int, ...] = ()
    expected: float = math.nan
    actual: float = math.nan

    def add(self, image: str, expected: Array, actual: Array) -> None:
        """Compare one image's tensor.

        Args:
            image: its name.
            expected: the reference's tensor.
            actual: the runtime's; another shape or dtype is an infinite difference.
        """
        self.images += 1
        if expected.shape != actual.shape or expected.dtype != actual.dtype:
            self.largest, self.worst_image = math.inf, image
            return
        wanted, given = expected.astype(np.float64), actual.astype(np.float64)
        error = np.abs(wanted - given)
        both = np.isnan(wanted) & np.isnan(given) & self.nan_is_equal
        error = np.where(both, 0.0, np.where(np.isnan(error), np.inf, error))
        self.elements += error.size
        self.total += float(error.sum())
        position = int(error.argmax())
        if error.flat[position] > self.largest:
            self.largest = float(error.flat[position])
            self.worst_image = image
            self.worst_index = tuple(int(i) for i in np.unravel_index(position, error.shape))
            self.expected, self.actual = float(wanted.flat[position]), float(given.flat[position])

    def add_equality(self, image: str, equal: bool) -> None:
        """Count a tensor of which only a hash is known: equal, or infinitely far."""
        self.images += 1
        distance = 0.0 if equal else math.inf
        if distance > self.largest:
            self.largest, self.worst_image = distance, image

    def result(self) -> TensorParity:
        """Return the figures."""
        return TensorParity(
            runtime=self.runtime,
            form=self.form,
            tensor=self.tensor,
            images=self.images,
            tolerance=self.tolerance,
            minimum_tolerance=self.largest,
            mean_error=self.total / self.elements if self.elements else 0.0,
            worst_image=self.worst_image,
            worst_index=self.worst_index,
            expected=None if math.isnan(self.expected) else self.expected,
            actual=None if math.isnan(self.actual) else self.actual,
            passed=self.largest <= self.tolerance,
        )
