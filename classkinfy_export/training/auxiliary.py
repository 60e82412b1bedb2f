"""A second task for the trunk, learnt beside the labels and left out of what is kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.stages.network import Network


class Auxiliary(nn.Module):
    """Tell measures of an image from its embedding, so that the embedding holds them.

    Args:
        embedding: width of the embedding.
        measures: how many there are.
        weight: of this task's loss, where that of the labels has 1.
    """

    def __init__(self, embedding: int, measures: int, weight: float) -> None:
        super().__init__()
        self.tell = nn.Linear(embedding, measures)
        self.weight = weight

    def forward(self, network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run on float32 [n, 3, s, s]: logits [n, outputs], and measures [n, measures]."""
        embedding = network.embed(inputs)
        return network.head(embedding), self.tell(embedding)

    def loss(self, told: Tensor, measures: Tensor) -> Tensor:
        """Return Huber's loss of float32 [n, measures]; rows with a NaN are not known."""
        known = torch.isfinite(measures).all(dim=1)
        if not known.any():
            return 0.0 * told.sum()
        return self.weight * nn.functional.smooth_l1_loss(told[known], measures[known])
