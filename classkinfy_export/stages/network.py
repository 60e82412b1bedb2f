"""A network: fixed-size pixels to logits. Normalisation is its first layer."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.errors import CheckpointError
from classkinfy_export.stages.pooling import bound_sums

_MLP_WIDTH = 128


class Network(nn.Module):
    """A timm backbone and a head, on pixel levels.

    Args:
        spec: architecture, head, input size, mean and std.
        drop_path: how often the last residual branch is left out in training.

    Raises:
        CheckpointError: timm knows no such architecture, or it does not take ``drop_path``.
    """

    def __init__(self, spec: NetworkSpec, drop_path: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        if not timm.is_model(spec.architecture):
            raise CheckpointError(
                f"architecture {spec.architecture!r} is not a timm model",
                hint="timm.list_models() names them all",
            )
        dropping: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
        try:
            self.backbone = timm.create_model(spec.architecture, num_classes=0, **dropping)
        except TypeError as error:
            if not dropping:
                raise
            raise CheckpointError(
                f"{spec.architecture} does not take drop_path", hint="leave network.drop_path out"
            ) from error
        bound_sums(self.backbone)
        # Some networks widen what they pooled before they give it.
        widened = getattr(self.backbone, "head_hidden_size", None)
        self.embedding_width = int(widened or getattr(self.backbone, "num_features"))  # noqa: B009
        """Width of the pooled features."""
        self.head = make_head(spec.head, self.embedding_width, spec.outputs)
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        self.scale: Tensor
        self.shift: Tensor
        self.offset: Offset | None = None
        """What is taken off the embedding, of a network made ready for int8."""

    def embed(self, levels: Tensor) -> Tensor:
        """Pool features from float32 [n, 3, s, s], 0..255, to float32 [n, embedding_width]."""
        features: Tensor = self.backbone(levels * self.scale + self.shift)
        return features if self.offset is None else self.offset(features)

    def forward(self, levels: Tensor) -> Tensor:
        """Compute logits, float32 [n, outputs], from float32 [n, 3, s, s], 0..255."""
        logits: Tensor = self.head(self.embed(levels))
        return logits


class Offset(nn.Module):
    """Takes a constant off: a layer of its own, so that formats find it in what they converted.

    Args:
        values: float32 [width].
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)
        self.values: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Take it off float32 [n, width]."""
        return features - self.values


def make_head(kind: str, width: int, outputs: int) -> nn.Sequential:
    """Return a head: ``linear``, or ``mlp`` as the origin project's graders have it."""
    if kind == "linear":
        return nn.Sequential(nn.Linear(width, outputs))
    return nn.Sequential(
        nn.Dropout(0.3),
        nn.Linear(width, _MLP_WIDTH),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(_MLP_WIDTH, outputs),
    )
