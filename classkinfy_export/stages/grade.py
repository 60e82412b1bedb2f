"""The graders: a severity for the predicted diagnosis, in two variants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.imaging.layout import to_images
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.network import Network, make_head


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


class Head(nn.Module):
    """What the trunk saw and the screen measured, side by side, to the logits of a severity.

    Args:
        width: of the embedding and the features together.
        outputs: number of severities.
    """

    LIMIT = 5.0
    """Standard deviations beyond which a value is cut."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.mlp = make_head("mlp", width, outputs)

    def forward(self, seen: Tensor) -> Tensor:
        """Run on float32 [n, width]: float32 [n, outputs]."""
        standard = (seen - self.mean) * self.scale
        logits: Tensor = self.mlp(torch.clamp(standard, -self.LIMIT, self.LIMIT))
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
        logits = self.head(torch.cat((embedding, features), dim=-1))
        return {"severity": torch.softmax(logits, dim=-1)}
