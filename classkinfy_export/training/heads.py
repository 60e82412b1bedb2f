"""Heads on the classifier's trunk: trained as one over all graded diagnoses, then taken apart.

What makes a lesion severe is much the same in each diagnosis, and the rare ones have few images:
one network learns from all of them, with the diagnosis as a one-hot input beside what was seen.
For one diagnosis that input is a constant, which goes into the hidden layer's bias.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from classkinfy_export.stages.grade import Head

COMPONENTS = 16
"""Principal components of the embedding that a head reads, where there are images enough."""
_IMAGES_PER_COMPONENT = 10
_ROUNDING = 1e-10
"""Of the largest component's variance."""

Rows = npt.NDArray[np.float32]


class OnRows(nn.Module):
    """A head on embedding and features side by side in one row, as a training stores them.

    Args:
        head: the head.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, rows: Tensor) -> Tensor:
        """Run on float32 [n, embedding + features]: float32 [n, outputs]."""
        width = self.head.axes.shape[1]
        logits: Tensor = self.head(rows[:, :width], rows[:, width:])
        return logits


def start(embeddings: Rows, features: Rows, diagnoses: int, outputs: int) -> Head:
    """Build a head for all diagnoses: random, but it knows the axes, mean and deviation.

    Args:
        embeddings: float32 [n, width], of the training part.
        features: float32 [n, features], likewise.
        diagnoses: how many one-hot inputs follow the features.
        outputs: number of severities.
    """
    number, width = embeddings.shape
    most = min(COMPONENTS, max(1, number // _IMAGES_PER_COMPONENT), width)
    pca = PCA(most, svd_solver="full").fit(embeddings)
    # Beyond an embedding's rank there is only rounding.
    varying = pca.explained_variance_ > _ROUNDING * pca.explained_variance_[0]
    axes = pca.components_[varying | (np.arange(most) == 0)]
    components = len(axes)
    known = np.concatenate((embeddings @ axes.T, features), axis=1)
    scaler = StandardScaler().fit(known)
    head = Head(width, features.shape[1] + diagnoses, components, outputs)
    head.axes.copy_(torch.from_numpy(axes))
    head.mean[: known.shape[1]] = torch.from_numpy(scaler.mean_)
    head.scale[: known.shape[1]] = torch.from_numpy(1.0 / scaler.scale_)
    return head


def take(head: Head, diagnosis: int, diagnoses: int) -> Head:
    """Return the head of one diagnosis out of that of all.

    Args:
        head: trained, with one-hot inputs after the features.
        diagnosis: which of them.
        diagnoses: how many there are.
    """
    components, width = head.axes.shape
    known = head.mean.numel() - diagnoses
    state = head.state_dict()
    weight, bias = state["hidden.weight"], state["hidden.bias"]
    own = Head(width, known - components, components, head.output.out_features)
    own.load_state_dict(
        state
        | {
            "mean": head.mean[:known],
            "scale": head.scale[:known],
            "hidden.weight": weight[:, :known],
            "hidden.bias": bias + weight[:, known + diagnosis],
        }
    )
    return own.eval()
