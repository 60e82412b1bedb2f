"""The classifier: clean pixels, and what the screen made of them, to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.imaging.layout import to_images
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.network import Network

_LEAST = 1e-4
"""Of ``preliminary``, so that shape and colour alone rule no class out; a normal float16."""


class Classify(nn.Module):
    """``clean`` to ``probabilities``, and to ``embedding`` when graders share the trunk.

    Two halves: the resize, whose result a training caches, and the network, which it trains.

    Args:
        network: the trained network.
        capture: (height, width) of ``clean``.
        embedding: also give the pooled features.
        screen_weight: of the screen's answer beside the network's; None of a classifier that does
            not ask the screen.
    """

    def __init__(
        self,
        network: Network,
        capture: tuple[int, int],
        embedding: bool,
        screen_weight: float | None = None,
    ) -> None:
        super().__init__()
        size = network.spec.input_size
        self.resize = Resize(capture, (size, size))
        self.network = network
        self.embedding = embedding
        self.screen_weight = screen_weight

    def resized(self, clean: Tensor) -> Tensor:
        """Resize uint8 [n, h, w, 3] to what the network takes: float32 [n, 3, s, s], integers."""
        levels: Tensor = self.resize(to_images(clean))
        return levels

    def forward(self, clean: Tensor, preliminary: Tensor | None = None) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3] and, where it asks the screen, float32 [n, classes]."""
        features = self.network.embed(self.resized(clean))
        probabilities = self.answer(features, preliminary)
        if self.embedding:
            return {"probabilities": probabilities, "embedding": features}
        return {"probabilities": probabilities}

    def answer(self, features: Tensor, preliminary: Tensor | None = None) -> Tensor:
        """Give the probabilities, float32 [n, classes], of pooled features [n, width]."""
        logits: Tensor = self.network.head(features)
        if self.screen_weight is not None:
            assert preliminary is not None
            logits = pooled(logits, preliminary, self.screen_weight)
        return torch.softmax(logits, dim=-1)


def pooled(logits: Tensor, preliminary: Tensor, weight: float) -> Tensor:
    """Pool two opinions: the network's, and the screen's to the power of a weight.

    A logarithmic pool (Genest and Zidek, 1986); a weight of 1 is Bayes' rule, were the two
    independent. Where the screen found nothing it holds all classes equally likely, and the
    network's opinion stands.

    Args:
        logits: of the network, float32 [n, classes].
        preliminary: of the screen, float32 [n, classes], 0..1.
        weight: of the screen, 0..1.

    Returns:
        logits, float32 [n, classes].
    """
    return logits + weight * torch.log(torch.clamp(preliminary, min=_LEAST))
