"""How far each tensor is from its reference on each image: what one line a tensor does not tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.document import Document
from classkinfy_export.parity.compare import Difference, TensorParity

Floats = npt.NDArray[np.float64]


class MappedImage(Document):
    """A column."""

    name: str
    id: str
    """The SHA-256 of its file; of a golden vector, its name."""


class ErrorMap(Document):
    """One runtime, precision and form: tensors by images."""

    runtime: str
    precision: str
    form: str
    images: tuple[MappedImage, ...]
    tensors: tuple[TensorParity, ...]
    """The rows that are gated, in the order in which a pipeline gives them."""
    largest: tuple[tuple[float | None, ...], ...]
    """[tensor][image]: absolute; None where the tensor was not given, of a grader's that did not
    run."""

    @property
    def differences(self) -> Floats:
        """The same as float64 [tensors, images], NaN where a tensor was not given."""
        shape = (len(self.tensors), len(self.images))
        return np.array(self.largest, np.float64).reshape(shape)

    @property
    def broken(self) -> npt.NDArray[np.bool_]:
        """Where a tensor breaks its tolerance: bool [tensors, images]."""
        return self.differences > self._tolerances

    @property
    def ratios(self) -> Floats:
        """Differences over what is allowed, float64 [tensors, images].

        At most 1 holds. Of an exact tensor 0 or infinity; NaN where a tensor was not given.
        """
        differences, allowed = self.differences, self._tolerances
        loose = allowed > 0.0
        ratios = differences / np.where(loose, allowed, 1.0)
        return np.where(loose | ~(differences > 0.0), ratios, math.inf)

    @property
    def _tolerances(self) -> Floats:
        return np.array([row.tolerance for row in self.tensors], np.float64).reshape(-1, 1)


def error_map(
    manifest: Manifest,
    rows: Sequence[TensorParity],
    seen: Sequence[tuple[MappedImage, dict[str, Difference]]],
) -> ErrorMap:
    """Lay out what was seen of one runtime, precision and form.

    Args:
        manifest: of the bundle; its stages give the order of the tensors.
        rows: the tensors' figures, at least one that is gated, all of one runtime, precision and
            form.
        seen: images, and differences by tensor.
    """
    order: list[str] = []
    for stage in manifest.stages:
        graded = f"severity_{stage.diagnosis}"
        order += [t.name if stage.diagnosis is None else graded for t in stage.outputs]
    ordered = sorted(
        (row for row in rows if row.tolerance is not None),
        key=lambda row: order.index(row.tensor) if row.tensor in order else len(order),
    )
    first = ordered[0]
    return ErrorMap(
        runtime=first.runtime,
        precision=first.precision,
        form=first.form,
        images=tuple(image for image, _ in seen),
        tensors=tuple(ordered),
        largest=tuple(
            tuple(
                differences[row.tensor].largest if row.tensor in differences else None
                for _, differences in seen
            )
            for row in ordered
        ),
    )
