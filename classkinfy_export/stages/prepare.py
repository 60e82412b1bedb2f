"""The first stage: the camera's front end, hair removal and quality measures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.contract import BRIGHT_LEVEL, DARK_LEVEL
from classkinfy_export.imaging.fill import pull_push
from classkinfy_export.imaging.gray import gray
from classkinfy_export.imaging.layout import to_pixels, to_planes
from classkinfy_export.imaging.morphology import black_hat
from classkinfy_export.imaging.quality import share, sharpness
from classkinfy_export.stages.front_end import FrontEnd

HAIR_WINDOW = 9
HAIR_THRESHOLD = 10.0


def hair_mask(luma: Tensor) -> Tensor:
    """Find dark thin structures: black-hat with a 9x9 square, above 10 gray levels.

    Args:
        luma: uint8 or float32 [n, 1, h, w], integers 0..255.

    Returns:
        float32 [n, 1, h, w], 1 on hair, 0 elsewhere.
    """
    return (black_hat(luma, HAIR_WINDOW) > HAIR_THRESHOLD).to(torch.float32)


class Prepare(nn.Module):
    """``image`` to ``clean`` and ``quality``; see ``contract.prepare_spec``.

    Args:
        hair_removal: fill hair in ``clean``; when off, ``clean`` is the image. Hair coverage is
            measured either way.
        front_end: reads the camera's bytes; without one, the image is RGB of the working size.

    Attributes:
        level_dtype: what holds the levels 0..255 where whole images are compared: uint8, or
            float32 for a runtime without 8-bit arithmetic. The outputs are the same bytes.
    """

    def __init__(self, hair_removal: bool = True, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        self.front_end = front_end
        self.hair_removal = hair_removal
        self.level_dtype = torch.uint8

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Run on uint8 images as the front end takes them: [n, h, w, 3] RGB without one."""
        rgb, levels, hair = self.find_hair(image)
        luma = levels.to(torch.float32)
        quality = torch.stack(
            (
                share(hair),
                sharpness(luma),
                share((luma < float(DARK_LEVEL)).to(torch.float32)),
                share((luma > float(BRIGHT_LEVEL)).to(torch.float32)),
            ),
            dim=1,
        )
        filled = pull_push(rgb, hair) if self.hair_removal else rgb
        return {"clean": to_pixels(filled), "quality": quality}

    def find_hair(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the colour planes [3, n, h, w], their gray [n, 1, h, w], and the hair mask."""
        if self.front_end is None:
            rgb = to_planes(image).to(self.level_dtype)
        else:
            rgb = self.front_end(image, self.level_dtype)
        levels = gray(rgb)
        return rgb, levels, hair_mask(levels)
