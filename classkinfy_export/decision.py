"""The decision of the staged form, on the host: NumPy's twin of ``stages.decide``.

An app that runs the stages one by one does exactly this between them. Comparisons are between
float32 values that are equal on every runtime, so the answer is too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classkinfy_export.contract import QUALITY_MEASURES, UNDECIDED, QualityRule

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the quality rules and the probabilities amount to."""

    accepted: bool
    reasons: int
    """Bit i is set when rule i is broken."""
    diagnosis: int
    """Class index, -1 when refused."""
    confidence: float


def decide(quality: Array, probabilities: Array, rules: tuple[QualityRule, ...]) -> Decision:
    """Apply the rules and pick the class.

    Args:
        quality: float32 [1, measures].
        probabilities: float32 [1, classes].
        rules: the manifest's quality rules.
    """
    measures = list(QUALITY_MEASURES)
    reasons, refused = 0, False
    for bit, rule in enumerate(rules):
        value = np.float32(quality[0, measures.index(rule.measure)])
        broken = (
            value > np.float32(rule.above)
            if rule.above is not None
            else value < np.float32(rule.below)
        )
        if broken:
            reasons |= 1 << bit
            refused = refused or rule.effect == "refuse"
    winner = int(np.argmax(probabilities[0]))
    return Decision(
        accepted=not refused,
        reasons=reasons,
        diagnosis=UNDECIDED if refused else winner,
        confidence=float(np.float32(probabilities[0, winner])),
    )
