"""The staged decision as docs/bundle.md words it, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MEASURES = ("hair_coverage", "sharpness", "dark_share", "bright_share")


def decide(
    quality: Sequence[float],
    probabilities: Sequence[float],
    rules: Sequence[tuple[str, str, float, str]],
) -> tuple[int, int, int, float]:
    """Give accepted, reasons, diagnosis and confidence.

    Args:
        quality: one value a measure; float32 values.
        probabilities: one a class.
        rules: measure, ``above`` or ``below``, threshold, effect.
    """
    broken = []
    for measure, side, threshold, _ in rules:
        value, limit = quality[MEASURES.index(measure)], float(np.float32(threshold))
        broken.append(value > limit if side == "above" else value < limit)
    reasons = sum(2**bit for bit, is_broken in enumerate(broken) if is_broken)
    refused = any(b and effect == "refuse" for b, (*_, effect) in zip(broken, rules, strict=True))
    best = max(probabilities)
    winner = list(probabilities).index(best)
    diagnosis = -1 if refused else winner
    return int(not refused), reasons, diagnosis, best
