"""What an evaluation says, as it is kept in JSON."""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import ConfigDict, model_validator

from classkinfy_export.document import Document


class Figure(NamedTuple):
    """A figure and its 95 % interval, by bootstrap over lesions."""

    value: float
    low: float
    high: float


Figures = dict[str, Figure]
"""By name, as ``recall/mel`` or ``balanced_accuracy``."""


class Slice(Document):
    """A part of the images."""

    n: int
    figures: Figures


class Bin(Document):
    """Answers of about one confidence."""

    n: int
    confidence: float
    accuracy: float


class Curve(Document):
    """A receiver operating characteristic, from (0, 0) to (1, 1)."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


class Evaluation(Document):
    """A classifier on a set of images; a bundle's evidence holds more beside it."""

    model_config = ConfigDict(extra="ignore")

    data: str
    """The data set's name, and the part of it."""
    runtime: str
    bundle: str
    """SHA-256 of the manifest of what answered."""
    n: int
    lesions: int
    """Groups of photos that the data set keeps together: lesions, or patients of PAD-UFES-20."""
    accepted: float
    """Share of the images that the quality rules accept; the figures are over all."""
    classes: tuple[str, ...]
    figures: Figures
    sensitivity: dict[str, Figures]
    """Of each malignant class, by the specificity it is had at."""
    confusion_matrix: tuple[tuple[int, ...], ...]
    """Rows are the true classes."""
    reliability: tuple[Bin, ...]
    curves: dict[str, Curve]
    """Of each class against the rest."""
    slices: dict[str, dict[str, Slice]]
    """By ``age``, ``sex`` and ``site``."""

    @model_validator(mode="after")
    def _curves_have_areas(self) -> Self:
        for dx in self.curves:
            if f"auroc/{dx}" not in self.figures:
                raise ValueError(f"the curve of {dx} has no area among the figures")
        return self


class Change(Document):
    """A figure of two classifiers, and its change with the interval of the paired bootstrap."""

    before: float
    after: float
    change: Figure


class Paired(Document):
    """Two classifiers on the same images."""

    images: int
    lesions: int
    changes: dict[str, Change]
    """``sensitivity`` and ``specificity`` are of the malignant side; others as in ``Figures``."""
    lost: int
    """Images that only the first had right."""
    gained: int
    """Images that only the second had right."""
    mcnemar_p: float
    """Of McNemar's exact test: how surprising so uneven a change is, were both equally good."""
