"""Quality rules and probabilities to a decision, in the graph; ``decision`` is its host twin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.contract import QUALITY_MEASURES, UNDECIDED, QualityRule


class Decide(nn.Module):
    """``quality`` and ``probabilities`` to a decision.

    Args:
        rules: quality rules; rule i sets bit i of ``reasons``.
    """

    def __init__(self, rules: tuple[QualityRule, ...]) -> None:
        super().__init__()
        self.rules = rules

    def forward(self, quality: Tensor, probabilities: Tensor) -> dict[str, Tensor]:
        """Run on float32 [1, measures] and float32 [1, classes].

        Gives ``accepted``, ``reasons``, ``diagnosis`` (int32 [1]) and ``confidence`` (float32 [1]).
        """
        reasons = torch.zeros_like(quality[:, 0], dtype=torch.int32)
        refused = torch.zeros_like(reasons)
        for bit, rule in enumerate(self.rules):
            value = quality[:, list(QUALITY_MEASURES).index(rule.measure)]
            broken = _broken(value, rule)
            reasons = reasons + broken.to(torch.int32) * (1 << bit)
            if rule.effect == "refuse":
                refused = refused + broken.to(torch.int32)
        accepted = 1 - torch.clamp(refused, max=1)
        confidence, winner = torch.max(probabilities, dim=-1)
        diagnosis = torch.where(accepted > 0, winner.to(torch.int32), UNDECIDED)
        return {
            "accepted": accepted,
            "reasons": reasons,
            "diagnosis": diagnosis,
            "confidence": confidence,
        }


def _broken(value: Tensor, rule: QualityRule) -> Tensor:
    if rule.above is not None:
        return value > rule.above
    assert rule.below is not None
    return value < rule.below
