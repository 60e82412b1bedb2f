"""The search for the cheapest precision whose answers are still the model's own.

Cost is instructions of a phone's core where they can be counted, else time on this machine. A
ladder is walked from what costs least: all of a network in int8; its noisiest blocks in float, more
on each rung; squeeze-and-excite branches in float besides; only weights as int8; halves. Where none
of the first, which compute in int8, holds, networks are trained for it and walk them again, which
takes longest. Every rung is run on photos that it was not calibrated on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classkinfy_export.evaluation.search import Choice, Fidelity, Sensitivity, Trial
from classkinfy_export.precision import Precision, calibrated, float_excitation
from classkinfy_export.recipes import QatRecipe

_WHOLE: Precision = "static_wi8_ai8"
_FLOATS = (0, 1, 2, 3, 4, 6, 8)
"""How many blocks a rung leaves in float."""
_ALIKE = 1.03
"""Costs that are less apart are the same: of times, a machine can tell no more."""
_LEAST = 1e-12
"""Of a probability whose logarithm is taken."""


class Rung(NamedTuple):
    """What to try of a stage."""

    precision: Precision
    float_blocks: tuple[str, ...] = ()
    trained: bool = False


def fidelity(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> Fidelity:
    """Compare answers, probabilities [photos, classes] each."""
    logits, others = (_logits(probabilities) for probabilities in (before, after))
    signal, noise = float((logits**2).sum()), float(((logits - others) ** 2).sum())
    return Fidelity(
        agreement=float((before.argmax(axis=1) == after.argmax(axis=1)).mean()),
        mean_change=float(np.abs(before.astype(np.float64) - after).mean()),
        sqnr_db=10.0 * math.log10(signal / noise) if signal > 0.0 and noise > 0.0 else None,
    )


def ladder(
    noises: Sequence[Sensitivity], *, excitation: bool, trained: bool = False
) -> Iterator[Rung]:
    """Give the rungs of a stage.

    Args:
        noises: of its blocks.
        excitation: whether the network has squeeze-and-excite branches.
        trained: for int8; only those that compute in it then.
    """
    noisiest = sorted(noises, key=_exactness)
    static: tuple[Precision, ...] = (_WHOLE, "static_wi8_ai8_se_fp32")
    for precision in static if excitation else (_WHOLE,):
        for count in _FLOATS:
            if count < len(noisiest):
                yield Rung(precision, tuple(found.block for found in noisiest[:count]), trained)
    if not trained:
        yield Rung("weight_only_wi8_afp32")
        yield Rung("fp16")


def choose(
    trials: Sequence[Trial], costs: Mapping[str, float], qat: QatRecipe | None
) -> Choice | None:
    """Choose one precision for all stages: the cheapest static one that holds, else the lightest.

    A static one must cost less than fp32. Of a stage's rungs that cost as much the least noisy is
    taken; and where a network has no squeeze-and-excite, leaving them in float changes nothing.

    Args:
        trials: of all stages, whose costs are all instructions, or all times.
        costs: of each stage in fp32.
        qat: how networks were trained, of trials that tell so.

    Returns:
        None where no precision holds in every stage.
    """
    whole: dict[tuple[Precision, bool], dict[str, Trial]] = {}
    for precision, trained in dict.fromkeys((t.precision, t.trained) for t in trials):
        alike = [trial for trial in trials if trial.trained == trained]
        found = {stage: _best(alike, stage, precision) for stage in costs}
        of = {stage: trial for stage, trial in found.items() if trial is not None}
        if of.keys() == costs.keys() and (
            not calibrated(precision) or _cost(of, costs) < sum(costs.values())
        ):
            whole[precision, trained] = of
    if not whole:
        return None

    def rank(way: tuple[Precision, bool]) -> tuple[bool, float]:
        of = whole[way]
        if calibrated(way[0]):
            return False, _cost(of, costs)
        return True, sum(trial.size for trial in of.values())

    precision, trained = min(whole, key=rank)
    blocks = {stage: trial.float_blocks for stage, trial in whole[precision, trained].items()}
    return Choice(
        precision=precision,
        float_blocks={stage: floats for stage, floats in blocks.items() if floats},
        qat=qat if trained else None,
    )


def _best(trials: Sequence[Trial], stage: str, precision: Precision) -> Trial | None:
    own = [t for t in trials if t.stage == stage and t.precision == precision]
    if not own and float_excitation(precision):
        own = [t for t in trials if t.stage == stage and t.precision == _WHOLE]
    holding = [trial for trial in own if trial.holds]
    least = min((trial.cost for trial in holding), default=0.0)
    alike = [trial for trial in holding if trial.cost <= least * _ALIKE]
    return max(alike, key=_exactness, default=None)


def _cost(of: Mapping[str, Trial], costs: Mapping[str, float]) -> float:
    return sum(trial.cost * costs[stage] for stage, trial in of.items())


def _exactness(found: Trial | Sensitivity) -> float:
    sqnr = found.fidelity.sqnr_db
    return math.inf if sqnr is None else sqnr


def _logits(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    logits = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))
