"""The exact antialiased resize as a module: two constant matrices, horizontal pass first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export import resampling


class Resize(nn.Module):
    """Resize to a square or any fixed size, equal to ``resampling.resize`` byte for byte.

    Args:
        in_size: (height, width) of the input.
        out_size: (height, width) of the output.
    """

    def __init__(self, in_size: tuple[int, int], out_size: tuple[int, int]) -> None:
        super().__init__()
        self.in_size = in_size
        self.out_size = out_size
        across = torch.from_numpy(resampling.matrix(in_size[1], out_size[1]))
        down = torch.from_numpy(resampling.matrix(in_size[0], out_size[0]))
        # Derived from the sizes, so not part of a checkpoint.
        self.register_buffer("across", across.T.contiguous(), persistent=False)
        self.register_buffer("down", down, persistent=False)
        self.across: Tensor
        self.down: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Resize float32 [..., h, w] holding 0..255 to float32 [..., *out_size], integers."""
        if self.in_size[1] != self.out_size[1]:
            image = _to_level(image @ self.across)
        if self.in_size[0] != self.out_size[0]:
            image = _to_level(self.down @ image)
        return image


def _to_level(total: Tensor) -> Tensor:
    return torch.floor((total + resampling.WEIGHT_SCALE // 2) * (1.0 / resampling.WEIGHT_SCALE))
