"""The first stage: hair removal and quality measures at capture size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.imaging.fill import pull_push
from classkinfy_export.imaging.gray import gray
from classkinfy_export.imaging.morphology import black_hat
from classkinfy_export.imaging.quality import share, sharpness

HAIR_WINDOW = 9
HAIR_THRESHOLD = 10.0
_DARK = 40.0
_BRIGHT = 240.0


def to_planes(pixels: Tensor) -> Tensor:
    """Turn uint8 [n, h, w, 3] into float32 [n, 3, h, w] with the same values."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32)


def to_pixels(planes: Tensor) -> Tensor:
    """Turn integers 0..255 in float32 [n, 3, h, w] into uint8 [n, h, w, 3]."""
    return planes.permute(0, 2, 3, 1).to(torch.uint8)


def hair_mask(luma: Tensor) -> Tensor:
    """Find dark thin structures: black-hat with a 9x9 square, above 10 gray levels.

    Args:
        luma: float32 [n, 1, h, w], integers 0..255.

    Returns:
        float32 [n, 1, h, w], 1 on hair, 0 elsewhere.
    """
    return (black_hat(luma, HAIR_WINDOW) > HAIR_THRESHOLD).to(torch.float32)


class Prepare(nn.Module):
    """``image`` to ``clean`` and ``quality``; see ``contract.prepare_spec``.

    Args:
        hair_removal: fill hair in ``clean``; when off, ``clean`` is the image. Hair coverage is
            measured either way.
    """

    def __init__(self, hair_removal: bool = True) -> None:
        super().__init__()
        self.hair_removal = hair_removal

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3] RGB."""
        rgb = to_planes(image)
        luma = gray(rgb)
        hair = hair_mask(luma)
        quality = torch.stack(
            (
                share(hair),
                sharpness(luma),
                share((luma < _DARK).to(torch.float32)),
                share((luma > _BRIGHT).to(torch.float32)),
            ),
            dim=1,
        )
        clean = to_pixels(pull_push(rgb, 1.0 - hair)) if self.hair_removal else image + 0
        return {"clean": clean, "quality": quality}
