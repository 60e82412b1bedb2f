"""Decisions of a runtime against the reference's, and what so many images prove of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from classkinfy_export.document import Document
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe

Array = npt.NDArray[np.generic]

CONFIDENCE = 0.95
"""Of the bound on a flip rate, one-sided."""
_MAX_NAMED = 20


class Answer(Document):
    """What one image's tensors decide."""

    probabilities: tuple[float, ...]
    diagnosis: int
    """Class index, -1 of a refused image."""
    accepted: int
    reasons: int
    severity: int | None
    """The likeliest, None of what is not graded."""

    @classmethod
    def of(cls, tensors: Mapping[str, Array]) -> Self:
        """Read an answer from a pipeline's tensors."""
        severity = np.asarray(tensors["severity"][0], np.float64)
        return cls(
            probabilities=tuple(float(p) for p in tensors["probabilities"][0]),
            diagnosis=int(tensors["diagnosis"][0]),
            accepted=int(tensors["accepted"][0]),
            reasons=int(tensors["reasons"][0]),
            severity=None if np.isnan(severity).any() else int(severity.argmax()),
        )

    @property
    def label(self) -> int:
        """The likeliest class, also of a refused image."""
        return int(np.argmax(self.probabilities))

    @property
    def margin(self) -> float:
        """How much likelier the first class is than the second."""
        second, first = sorted(self.probabilities)[-2:]
        return first - second


class DecisionParity(Document):
    """Decisions of one runtime and form against its reference's."""

    runtime: str
    precision: str
    form: str
    reference: str
    images: int
    label_agreement: float
    """Share of images whose most probable class is the reference's."""
    label_flips: int
    malignancy_flips: int
    """Flips onto or off the malignant side."""
    routing_flips: int
    """Images for which another grader was chosen, or none instead of one."""
    severity_flips: int
    """Images with another likeliest grade from the same grader."""
    decision_flips: int
    """Images with another diagnosis, acceptance or reasons; a refused image has no diagnosis."""
    flips: int
    """Images with any of these."""
    widest_flip: float | None
    """The largest margin, in the reference, of a label that flipped; None without one."""
    largest_shift: float
    """Largest change of a probability."""
    mean_shift: float
    """Mean over images of the largest change of a probability."""
    close_calls: int
    """Images whose two likeliest classes are nearer than the recipe's ``close_call``."""
    largest_close_shift: float
    """Largest change of a probability among those; there a change may flip a label."""
    flip_bound: float
    """The true share of flips is below this, with 95 % confidence (Clopper and Pearson, 1934)."""
    flip_rate: float
    """Asked for."""
    images_needed: int
    """As many images, without a flip among them, prove the rate asked for."""
    proven: bool
    """Whether the bound is within the rate asked for."""
    flipped: tuple[str, ...]
    """The first of them."""
    passed: bool
    """Proven, or too few images to prove it and not a flip; and no more flips than allowed. Of a
    precision other than fp32, beside PyTorch: no larger a share and no larger a mean shift than
    asked. Of one int8 file in two runtimes: no larger a share, and no label by more than the
    recipe's ``widest_flip``."""


def decisions(
    pairs: Sequence[tuple[str, Answer, Answer]],
    taxonomy: Taxonomy,
    recipe: ParityRecipe,
    *,
    runtime: str,
    precision: Precision,
    form: str,
    reference: str,
    same_file: bool = False,
) -> DecisionParity:
    """Compare answers.

    Args:
        pairs: images' names, the reference's answers, the runtime's; at least one.
        taxonomy: which classes are malignant, and which graded.
        recipe: what is asked of the runtime.
        runtime: its name.
        precision: of its models.
        form: staged or fused.
        reference: what it is compared with.
        same_file: whether that ran the same file, of a precision other than fp32.
    """
    names = [name for name, _, _ in pairs]
    wanted = np.array([before.probabilities for _, before, _ in pairs])
    given = np.array([after.probabilities for _, _, after in pairs])
    labels, others = wanted.argmax(axis=1), given.argmax(axis=1)
    malignant = np.isin(taxonomy.classes, taxonomy.malignant)
    margins = np.array([before.margin for _, before, _ in pairs])
    label = labels != others
    routing = np.array([_route(a, taxonomy) != _route(b, taxonomy) for _, a, b in pairs])
    severity = np.array([a.severity != b.severity for _, a, b in pairs]) & ~routing
    decision = np.array([_decision(a) != _decision(b) for _, a, b in pairs])
    any_flip = label | routing | severity | decision
    shifts = np.abs(wanted - given).max(axis=1)
    close = margins < recipe.close_call
    flips, images = int(any_flip.sum()), len(pairs)
    asked = recipe.of(runtime)
    rate, largest_mean = asked.flip_rate, math.inf
    widest = float(margins[label].max()) if label.any() else None
    rounded = same_file and calibrated(precision)  # its kernels may round otherwise
    changed = precision != "fp32" and not same_file
    if rounded:
        rate = recipe.quantised.flip_rate
    elif changed:
        rate, largest_mean = recipe.quantised.beside_pytorch(precision)
    bound, needed = upper_bound(flips, images), images_needed(rate)
    proven = bound <= rate or (flips == 0 and images >= needed)
    within = asked.flips == "any" or flips <= asked.flips
    passed = within and (proven or (flips == 0 and images < needed))
    if rounded or changed:
        passed = flips <= rate * images and float(shifts.mean()) <= largest_mean
    if rounded:
        passed = passed and (widest or 0.0) <= recipe.quantised.widest_flip
    return DecisionParity(
        runtime=runtime,
        precision=precision,
        form=form,
        reference=reference,
        images=images,
        label_agreement=1.0 - float(label.mean()),
        label_flips=int(label.sum()),
        malignancy_flips=int((malignant[labels] != malignant[others]).sum()),
        routing_flips=int(routing.sum()),
        severity_flips=int(severity.sum()),
        decision_flips=int(decision.sum()),
        flips=flips,
        widest_flip=widest,
        largest_shift=float(shifts.max()),
        mean_shift=float(shifts.mean()),
        close_calls=int(close.sum()),
        largest_close_shift=float(shifts[close].max()) if close.any() else 0.0,
        flip_bound=bound,
        flip_rate=rate,
        images_needed=needed,
        proven=proven,
        flipped=tuple(name for name, flip in zip(names, any_flip, strict=True) if flip)[
            :_MAX_NAMED
        ],
        passed=bool(passed),
    )


def upper_bound(flips: int, images: int) -> float:
    """Return the largest rate at which so few flips are not yet surprising.

    Clopper and Pearson's exact bound, one-sided: the p at which a binomial draw of ``images`` has
    ``flips`` or fewer with a probability of 5 %. Found by halving, for the core install has no
    SciPy.

    Args:
        flips: seen, 0 to ``images``.
        images: looked at, 1 or more.
    """
    if flips >= images:
        return 1.0
    ways = [math.lgamma(images + 1) - math.lgamma(k + 1) - math.lgamma(images - k + 1)
            for k in range(flips + 1)]  # fmt: skip

    def chance(p: float) -> float:
        terms = (w + k * math.log(p) + (images - k) * math.log1p(-p) for k, w in enumerate(ways))
        return math.fsum(math.exp(term) for term in terms)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if chance(middle) > 1.0 - CONFIDENCE else (low, middle)
    return high


def images_needed(rate: float) -> int:
    """Return how many images, without a flip, prove a rate: (1 - rate)**n <= 5 %."""
    return math.ceil(math.log(1.0 - CONFIDENCE) / math.log1p(-rate))


def _route(answer: Answer, taxonomy: Taxonomy) -> str | None:
    if answer.diagnosis < 0:
        return None
    dx = taxonomy.classes[answer.diagnosis]
    return dx if dx in taxonomy.graded else None


def _decision(answer: Answer) -> tuple[int, int, int]:
    return answer.diagnosis, answer.accepted, answer.reasons
