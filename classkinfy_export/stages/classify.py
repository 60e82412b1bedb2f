"""The classifier: clean pixels to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.imaging.layout import to_images
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.network import Network


class Classify(nn.Module):
    """``clean`` to ``probabilities``, and to ``embedding`` when graders share the trunk.

    Two halves: the resize, whose result a training caches, and the network, which it trains.

    Args:
        network: the trained network.
        capture: (height, width) of ``clean``.
        embedding: also give the pooled features.
    """

    def __init__(self, network: Network, capture: tuple[int, int], embedding: bool) -> None:
        super().__init__()
        size = network.spec.input_size
        self.resize = Resize(capture, (size, size))
        self.network = network
        self.embedding = embedding

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3]."""
        features = self.network.embed(self.resize(to_images(clean)))
        probabilities = torch.softmax(self.network.head(features), dim=-1)
        if self.embedding:
            return {"probabilities": probabilities, "embedding": features}
        return {"probabilities": probabilities}
