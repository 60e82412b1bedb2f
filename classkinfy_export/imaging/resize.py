"""The exact antialiased resize as a module: horizontal pass first, each pass a banded matrix.

An output pixel reads only a few neighbours, so the matrix of all weights is mostly zeros. It is cut
into blocks of outputs, each multiplied with the stretch of inputs that it reads: half the time of
the whole matrix, and runtimes have no faster kernel for a filter whose taps differ by pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export import resampling

_BLOCKS = 8


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
        self.across = _Axis(in_size[1], out_size[1], dim=-1)
        self.down = _Axis(in_size[0], out_size[0], dim=-2)

    def forward(self, image: Tensor) -> Tensor:
        """Resize float32 [..., h, w] holding 0..255 to float32 [..., *out_size], integers."""
        if self.in_size[1] != self.out_size[1]:
            image = _to_level(self.across(image))
        if self.in_size[0] != self.out_size[0]:
            image = _to_level(self.down(image))
        return image


class _Axis(nn.Module):
    """Weighted sums along one axis, of levels in steps of ``1 / WEIGHT_SCALE``.

    In these units float32 is as exact as in whole numbers, and half precision does not overflow.
    """

    def __init__(self, in_size: int, out_size: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.reach: list[tuple[int, int]] = []
        """First input of each block, and how many."""
        weights = torch.from_numpy(resampling.matrix(in_size, out_size)) / resampling.WEIGHT_SCALE
        for number, block in enumerate(weights.tensor_split(min(_BLOCKS, out_size))):
            read = block.any(dim=0).nonzero()
            first, last = int(read[0]), int(read[-1])
            self.reach.append((first, last - first + 1))
            band = block[:, first : last + 1]
            band = band if dim == -2 else band.T
            # Derived from the sizes, so not part of a checkpoint.
            self.register_buffer(f"block_{number}", band.contiguous(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        parts = []
        for (first, count), weights in zip(self.reach, self.buffers(), strict=True):
            stretch = image.narrow(self.dim, first, count)
            parts.append(weights @ stretch if self.dim == -2 else stretch @ weights)
        return torch.cat(parts, dim=self.dim)


def _to_level(total: Tensor) -> Tensor:
    return torch.floor(total + 0.5)
