"""The graders: a severity for the predicted diagnosis, in two variants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.imaging.layout import to_images
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.network import Network


class GradeNetwork(nn.Module):
    """``clean`` to ``severity`` by a network of its own.

    Args:
        network: the trained network.
        capture: (height, width) of ``clean``.
    """

    def __init__(self, network: Network, capture: tuple[int, int]) -> None:
        super().__init__()
        size = network.spec.input_size
        self.resize = Resize(capture, (size, size))
        self.network = network

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3]."""
        logits = self.network(self.resize(to_images(clean)))
        return {"severity": torch.softmax(logits, dim=-1)}


class GradeHead(nn.Module):
    """``embedding`` to ``severity`` by a head on the classifier's trunk.

    Args:
        head: the trained head.
    """

    def __init__(self, head: nn.Sequential) -> None:
        super().__init__()
        self.head = head

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Run on float32 [n, width]."""
        return {"severity": torch.softmax(self.head(embedding), dim=-1)}
