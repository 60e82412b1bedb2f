"""Stored pixels to a network's input: moved, recoloured and overlaid at random in training.

All of it works on whole batches, each image with its own draw, from torch's global generator.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classkinfy_export.imaging.layout import to_images
from classkinfy_export.recipes import AugmentRecipe

_LUMA = (0.299, 0.587, 0.114)
_HAIRS, _PATTERNS = 12, 32
"""Most hairs on an image, and how many pictures of hair are drawn once to choose from."""


class Augment(nn.Module):
    """uint8 [n, s, s, 3] to float32 [n, 3, s, s] levels, 0..255.

    Args:
        recipe: what to vary, and how much.
        side: s, pixels.
        aspect: width over height of the photo that was squashed to the square; turning undoes it.
    """

    def __init__(self, recipe: AugmentRecipe, side: int, aspect: float) -> None:
        super().__init__()
        self.recipe = recipe
        self.aspect = aspect
        self.hair: Tensor
        patterns = _hair(side) if recipe.hair else torch.zeros(0, 1, side, side)
        self.register_buffer("hair", patterns, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Transform a batch."""
        levels = to_images(pixels)
        if self.training:
            levels = self._moved(levels)
            levels = self._recoloured(levels)
            levels = self._overlaid(levels)
        return levels.contiguous(memory_format=torch.channels_last)

    def _moved(self, levels: Tensor) -> Tensor:
        """Turn, scale and shift about the centre, in the photo's own shape; edges are mirrored."""
        recipe, n = self.recipe, len(levels)
        if not (recipe.rotation or recipe.scale or recipe.shift):
            if recipe.flips:  # lesions have no up
                for dim in (2, 3):
                    levels = torch.where(_chance(levels, 0.5), levels.flip(dim), levels)
            return levels
        angle = _uniform(n) * math.radians(recipe.rotation)
        scale = torch.exp(_uniform(n) * math.log1p(recipe.scale))
        cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
        shift = _uniform(n, 2) * recipe.shift
        rows = (
            torch.stack((cosine, -sine / self.aspect, shift[:, 0]), dim=1),
            torch.stack((sine * self.aspect, cosine, shift[:, 1]), dim=1),
        )
        maps = torch.stack(rows, dim=1)
        if recipe.flips:
            maps = maps * torch.where(torch.rand(n, 2, 1) < 0.5, -1.0, 1.0)
        grid = F.affine_grid(maps, list(levels.shape), align_corners=False)
        return F.grid_sample(levels, grid, padding_mode="reflection", align_corners=False)

    def _recoloured(self, levels: Tensor) -> Tensor:
        """Vary white balance, brightness, contrast and saturation, as light and camera do."""
        n, recipe = len(levels), self.recipe
        if recipe.white_balance:
            levels = levels * (1.0 + recipe.white_balance * _uniform(n, 3, 1, 1))
        if recipe.colour:
            gray = (levels * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
            saturation, contrast, brightness = 1.0 + recipe.colour * _uniform(3, n, 1, 1, 1)
            levels = gray + (levels - gray) * saturation
            mean = gray.mean(dim=(2, 3), keepdim=True)
            levels = (mean + (levels - mean) * contrast) * brightness
        if recipe.white_balance or recipe.colour:
            levels = torch.clamp(levels, 0.0, 255.0)
        return levels

    def _overlaid(self, levels: Tensor) -> Tensor:
        """Lay hair over some images, and dark corners over others."""
        n, side = len(levels), levels.shape[-1]
        if self.recipe.hair:
            cover = self.hair[torch.randint(len(self.hair), (n,))]
            cover = torch.where(_chance(levels, 0.5), cover.flip(3), cover.transpose(2, 3))
            darkness = 0.5 + 0.4 * torch.rand(n, 1, 1, 1)
            hairy = levels * (1.0 - cover * darkness)
            levels = torch.where(_chance(levels, self.recipe.hair), hairy, levels)
        if self.recipe.vignette:
            axis = (torch.arange(side) + 0.5) / side * 2.0 - 1.0
            radius = torch.sqrt((axis * self.aspect) ** 2 + (axis**2)[:, None])
            field = 1.1 + 0.5 * torch.rand(n, 1, 1, 1)
            light = torch.clamp((field - radius) * 8.0, 0.0, 1.0)
            levels = torch.where(_chance(levels, self.recipe.vignette), levels * light, levels)
        return levels


def _uniform(*shape: int) -> Tensor:
    return 2.0 * torch.rand(*shape) - 1.0


def _chance(levels: Tensor, probability: float) -> Tensor:
    return torch.rand(len(levels), 1, 1, 1) < probability


def _hair(side: int) -> Tensor:
    """Draw arcs as hair lies: float32 [patterns, 1, side, side], 0..1."""
    generator = torch.Generator().manual_seed(0)
    axis = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    x, y = axis[None, :], axis[:, None]
    patterns = torch.zeros(_PATTERNS, 1, side, side)
    for pattern in patterns:
        for _ in range(int(torch.randint(3, _HAIRS + 1, (), generator=generator))):
            # A part of a circle's line, larger than the frame, and a pixel or two wide.
            centre_x, centre_y, radius, cut, wide = torch.rand(5, generator=generator).tolist()
            distance = torch.sqrt((x - 3 * centre_x + 1) ** 2 + (y - 3 * centre_y + 1) ** 2)
            line = torch.clamp(1.0 + wide - torch.abs(distance - 0.3 - radius) * side, 0.0, 1.0)
            pattern[0] = torch.maximum(pattern[0], line * (x * cut + y * (1 - cut) > 0.3))
    return patterns
