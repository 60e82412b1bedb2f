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

    def resized(self, clean: Tensor) -> Tensor:
        """Resize uint8 [n, h, w, 3] to what the network takes: float32 [n, 3, s, s], integers."""
        levels: Tensor = self.resize(to_images(clean))
        return levels

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3]."""
        logits = self.network(self.resized(clean))
        return {"severity": torch.softmax(logits, dim=-1)}


class Head(nn.Module):
    """What the trunk saw and the screen measured to the logits of a severity.

    Of the embedding only its first principal components count. They and the features are brought
    to mean 0 and deviation 1, cut at ``LIMIT``, and go through one hidden layer.

    Args:
        embedding: width of the embedding.
        features: number of features.
        components: number of principal components.
        outputs: number of severities.
    """

    LIMIT = 5.0
    """Standard deviations beyond which a value is cut."""
    WIDTH = 128

    axes: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, embedding: int, features: int, components: int, outputs: int) -> None:
        super().__init__()
        known = components + features
        self.register_buffer("axes", torch.zeros(components, embedding))
        self.register_buffer("mean", torch.zeros(known))
        self.register_buffer("scale", torch.ones(known))
        self.hidden = nn.Linear(known, self.WIDTH)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(self.WIDTH, outputs)

    def forward(self, embedding: Tensor, features: Tensor) -> Tensor:
        """Run on float32 [n, embedding] and float32 [n, features]: float32 [n, outputs]."""
        known = torch.cat((nn.functional.linear(embedding, self.axes), features), dim=-1)
        standard = torch.clamp((known - self.mean) * self.scale, -self.LIMIT, self.LIMIT)
        logits: Tensor = self.output(self.dropout(torch.relu(self.hidden(standard))))
        return logits


class GradeHead(nn.Module):
    """``embedding`` and ``features`` to ``severity`` by a head on the classifier's trunk.

    Args:
        head: the trained head.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, embedding: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Run on float32 [n, width] and float32 [n, features]."""
        return {"severity": torch.softmax(self.head(embedding, features), dim=-1)}
