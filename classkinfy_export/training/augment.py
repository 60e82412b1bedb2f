"""Stored pixels to a network's input, flipped and recoloured at random in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.imaging.layout import to_images


class Augment(nn.Module):
    """uint8 [n, s, s, 3] to float32 [n, 3, s, s] levels, 0..255.

    Args:
        flips: mirror each image left-right and up-down with probability one half each, and
            transpose it with one half: lesions have no up.
        colour_jitter: largest relative change of each channel's gain, and of the brightness.
    """

    def __init__(self, flips: bool, colour_jitter: float) -> None:
        super().__init__()
        self.flips = flips
        self.colour_jitter = colour_jitter

    def forward(self, pixels: Tensor) -> Tensor:
        """Transform a batch, each image with its own draw."""
        levels = to_images(pixels)
        n = levels.shape[0]
        if self.flips:
            for operation in (_mirror, _turn, _transpose):
                chosen = torch.rand(n, 1, 1, 1) < 0.5
                levels = torch.where(chosen, operation(levels), levels)
        if self.colour_jitter:
            gain = 1.0 + self.colour_jitter * (2.0 * torch.rand(n, 3, 1, 1) - 1.0)
            shift = 255.0 * self.colour_jitter * (torch.rand(n, 1, 1, 1) - 0.5)
            levels = torch.clamp(levels * gain + shift, 0.0, 255.0)
        return levels.contiguous(memory_format=torch.channels_last)


def _mirror(levels: Tensor) -> Tensor:
    return levels.flip(3)


def _turn(levels: Tensor) -> Tensor:
    return levels.flip(2)


def _transpose(levels: Tensor) -> Tensor:
    return levels.transpose(2, 3)
