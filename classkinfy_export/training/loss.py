"""Cross-entropy for classes of unlike size: weighted, smoothed, focal."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from classkinfy_export.recipes import FitRecipe
from classkinfy_export.training.batches import shares

_EFFECTIVE = 0.999
"""Beta of Cui et al. (2019): samples beyond about a thousand add little."""


class Loss(nn.Module):
    """Mean of ``weight * target * (1 - p)**focal * -log p`` over a batch, summed over classes.

    Args:
        weights: of the classes, float32 [classes].
        offsets: added to the logits, float32 [classes].
        focal: 0 for cross-entropy.
        label_smoothing: share of the target that is spread over all classes.
    """

    weights: Tensor
    offsets: Tensor

    def __init__(
        self, weights: Tensor, offsets: Tensor, focal: float, label_smoothing: float
    ) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.focal = focal
        self.label_smoothing = label_smoothing

    @classmethod
    def of(cls, recipe: FitRecipe, labels: npt.NDArray[np.int64], outputs: int) -> Self:
        """Return the recipe's loss for a training part; the weights of its images average 1."""
        counts = np.bincount(labels, minlength=outputs).astype(np.float64)
        present = np.maximum(counts, 1.0)
        weights = {
            "none": np.ones(outputs),
            "inverse": 1.0 / present,
            "effective": (1.0 - _EFFECTIVE) / (1.0 - _EFFECTIVE**present),
        }[recipe.class_weights]
        weights = weights * counts.sum() / (weights * counts).sum()
        offsets = recipe.logit_adjustment * np.log(shares(present, recipe.sampling))
        return cls(
            torch.from_numpy(weights).to(torch.float32),
            torch.from_numpy(offsets).to(torch.float32),
            recipe.focal,
            recipe.label_smoothing,
        )

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Run on float32 [n, classes] twice; targets are probabilities."""
        smooth = self.label_smoothing
        targets = targets * (1.0 - smooth) + smooth / targets.shape[1]
        log = torch.log_softmax(logits + self.offsets, dim=1)
        terms = -targets * log * self.weights
        if self.focal:
            terms = terms * (1.0 - log.exp()) ** self.focal
        return terms.sum(dim=1).mean()
