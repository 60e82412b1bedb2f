"""Which tensor of a file is which of PyTorch's: by value, whatever the layout.

Converters fold, fuse and transpose, so names and shapes alone do not tell. Up to a fault values do:
computed alike, two tensors are hundreds of times nearer to each other than to any other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classkinfy_export.parity.graphs.base import COMPARED, Array
from classkinfy_export.runtimes.pytorch import Intermediate

Layout = tuple[int, ...]
"""The reference's axes in the order in which a file has them."""
Shape = tuple[int, ...]
_NHWC = (0, 2, 3, 1)
_SUMMED = 1e-9
"""What sums in float64 differ by when they are taken in another order, relative, and more."""


@dataclass(frozen=True)
class Match:
    """A tensor's counterpart."""

    reference: int
    """Its place in the reference's list."""
    layout: Layout


def layouts(expected: Shape, actual: Shape) -> Iterator[Layout]:
    """Give the ways in which a tensor can lie in another shape, the likeliest first.

    Transposed, the lengths must be the same, but for axes of length 1; in its own order it may have
    any shape of as many elements.
    """
    if math.prod(expected) != math.prod(actual):
        return
    straight = tuple(range(len(expected)))
    ones = [axis for axis in straight if expected[axis] == 1]
    long = [axis for axis in straight if expected[axis] != 1]
    wanted = [n for n in actual if n != 1]
    as_it_is = [expected[axis] for axis in long] == wanted
    if as_it_is:
        yield straight
    if len(long) <= len(_NHWC):
        usual = [axis for axis in _NHWC if axis in long] if len(expected) == len(_NHWC) else long
        for order in itertools.permutations(usual):
            if list(order) != long and [expected[axis] for axis in order] == wanted:
                yield (*ones, *order)
    if not as_it_is:
        yield straight


def laid_out(expected: Array, layout: Layout, shape: Shape, dtype: str) -> Array:
    """Return a tensor of the reference as a file has it."""
    return np.ascontiguousarray(expected.transpose(layout).reshape(shape).astype(dtype))


@dataclass(frozen=True)
class _Sums:
    """What two tensors of the same values share in whatever order, and so can be told by first."""

    elements: int
    mean: float
    magnitude: float
    rms: float

    @classmethod
    def of(cls, value: npt.NDArray[np.float32]) -> _Sums:
        flat = value.ravel().astype(np.float64)
        size = max(flat.size, 1)
        return cls(
            elements=flat.size,
            mean=float(flat.sum()) / size,
            magnitude=float(np.abs(flat).sum()) / size,
            rms=math.sqrt(float(flat @ flat) / size),
        )

    def may_be(self, other: _Sums, least_db: float) -> bool:
        """Whether the other can be this one with so little noise; each mean moves by no more."""
        noise = self.rms * max(math.pow(10.0, -least_db / 20.0), _SUMMED) + _SUMMED**2
        pairs = (
            (self.mean, other.mean),
            (self.magnitude, other.magnitude),
            (self.rms, other.rms),
        )
        # NaN is near nothing, and infinite sums tell nothing.
        return all(not abs(a - b) > noise for a, b in pairs)


class Matcher:
    """Finds counterparts among the reference's tensors.

    Args:
        trace: the reference's, in order.
        least_db: the SQNR from which on two tensors are the same.
    """

    def __init__(self, trace: Sequence[Intermediate], least_db: float) -> None:
        self.trace = trace
        self.least_db = least_db
        with np.errstate(invalid="ignore", over="ignore"):
            self._values = [t.value.astype(np.float32) for t in trace]
            self._sums = [_Sums.of(value) for value in self._values]
        self._by_size: dict[int, list[int]] = {}
        for place, tensor in enumerate(trace):
            # Masks and indices are cast where a file computes with them, and then compared.
            if str(tensor.value.dtype) in (*COMPARED, "bool", "int64"):
                self._by_size.setdefault(tensor.value.size, []).append(place)

    def of_size(self, size: int) -> list[int]:
        """Return the places of the reference's tensors of so many elements."""
        return self._by_size.get(size, [])

    def find(self, name: str, value: Array, near: int) -> Match | None:
        """Return a tensor's counterpart, if there is one.

        Args:
            name: the tensor's, taken where several are the same.
            value: the tensor's.
            near: of several without that name, the nearest to this place is taken.
        """
        actual = value.astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            sums = _Sums.of(actual)
        places = self.of_size(value.size)
        for place in sorted(places, key=lambda p: (self.trace[p].name != name, abs(p - near))):
            if not self._sums[place].may_be(sums, self.least_db):
                continue
            expected = self._values[place]
            for layout in layouts(expected.shape, actual.shape):
                turned = expected.transpose(layout).reshape(actual.shape)
                if same(turned, actual, self.least_db):
                    return Match(place, layout)
        return None

    def find_all(self, names: Sequence[str], values: Mapping[str, Array]) -> dict[str, Match]:
        """Return the counterparts of tensors that are given in running order."""
        found: dict[str, Match] = {}
        near = 0
        for name in names:
            match = self.find(name, values[name], near)
            if match is not None:
                found[name] = match
                near = match.reference + 1
        return found


def same(expected: Array, actual: Array, least_db: float) -> bool:
    """Whether a tensor's noise is no more than that; an infinity is equal to itself."""
    wanted, given = expected.astype(np.float32).ravel(), actual.astype(np.float32).ravel()
    with np.errstate(invalid="ignore", over="ignore"):
        error = (given - wanted).astype(np.float64)
        noise = float(error @ error)
    if math.isfinite(noise):
        signal = wanted.astype(np.float64)
        finite = np.isfinite(signal)
        signal = signal[finite] if not finite.all() else signal
        return noise <= float(signal @ signal) * math.pow(10.0, -least_db / 10.0)
    return bool(np.array_equal(wanted, given, equal_nan=True))
