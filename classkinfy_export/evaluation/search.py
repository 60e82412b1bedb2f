"""What a search for precisions tried and found."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import ConfigDict

from classkinfy_export.document import Document
from classkinfy_export.precision import Precision
from classkinfy_export.recipes import QatRecipe

Cost = Literal["instructions", "time"]


class Fidelity(Document):
    """How near answers are to the float network's, over photos."""

    agreement: float
    """Share of the photos with the same decision."""
    mean_change: float
    """Mean absolute difference of a probability."""
    sqnr_db: float | None
    """Of the log-probabilities, mean taken off: power over that of the difference; None of none."""


class Sensitivity(Document):
    """What a block costs in int8, everything else of its network in float."""

    stage: str
    block: str
    fidelity: Fidelity


class Trial(Document):
    """A rung, tried."""

    stage: str
    precision: Precision
    float_blocks: tuple[str, ...]
    trained: bool = False
    """Whether networks were trained for int8 first, those that this made less noisy."""
    fidelity: Fidelity
    time: float
    """On this machine, over that of fp32 in turn with it."""
    instructions: float | None = None
    """Of an emulated Cortex-A76, over those of fp32; None where they were not counted."""
    size: float
    """Of the model, over that of fp32."""
    holds: bool
    """Whether as many decisions are the same as were asked for."""

    @property
    def cost(self) -> float:
        """What a search wants least of: instructions where they are counted, else time."""
        return self.time if self.instructions is None else self.instructions


class Choice(Document):
    """What to export."""

    precision: Precision
    float_blocks: dict[str, tuple[str, ...]]
    """By stage."""
    qat: QatRecipe | None = None
    """How networks are to be trained for int8 first."""


class Search(Document):
    """All that was tried, and what came of it. As evidence it also names a manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    agreement: float
    """The share of same decisions that was asked for."""
    images: int
    """That rungs were judged by."""
    images_sha256: str
    core: str | None = None
    """What counted instructions; None where time is the cost, or where an older version counted."""
    sensitivity: tuple[Sensitivity, ...]
    trials: tuple[Trial, ...]
    choice: Choice | None
    """None where nothing holds but fp32."""

    def front(self) -> list[Trial]:
        """Return what is not beaten: nothing of its stage is better in one way and worse in none.

        The ways are cost, size and noise.
        """
        return [t for t in self.trials if not any(_beats(other, t) for other in self.trials)]


def _beats(one: Trial, other: Trial) -> bool:
    ours, theirs = (
        (t.cost, t.size, -math.inf if t.fidelity.sqnr_db is None else -t.fidelity.sqnr_db)
        for t in (one, other)
    )
    return (
        one.stage == other.stage
        and ours != theirs
        and all(a <= b for a, b in zip(ours, theirs, strict=True))
    )
