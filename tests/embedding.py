"""A network as a stage of its own, from levels to what it pools."""

from __future__ import annotations

from torch import Tensor, nn

from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.stages.network import Network


class Embedding(nn.Module):
    """A stage of what a network pools."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: Tensor) -> dict[str, Tensor]:
        """Pool float32 [1, 3, s, s]."""
        return {"embedding": self.network.embed(levels)}


def spec(network: Network) -> StageSpec:
    """Return the tensors of a network's ``Embedding``."""
    side, width = network.spec.input_size, network.embedding_width
    levels = TensorSpec(name="levels", dtype="float32", shape=(1, 3, side, side), unit="levels")
    given = TensorSpec(name="embedding", dtype="float32", shape=(1, width), unit="")
    return StageSpec(name="classify", kind="classify", inputs=(levels,), outputs=(given,))
