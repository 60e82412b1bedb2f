"""The instant answer: where the lesion is, its shape and colours, and what they suggest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.contract import SCREEN_FEATURES, SCREEN_SCALE
from classkinfy_export.imaging import colour
from classkinfy_export.imaging.features import describe
from classkinfy_export.imaging.lesion import STEPS, reduced, segment


class Measure(nn.Module):
    """``clean`` to ``lesion_mask`` and ``features``: what ``screen`` does without weights."""

    light: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("light", colour.linear_table(), persistent=False)

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3]."""
        rgb = reduced(clean, SCREEN_SCALE)
        lab = torch.floor(colour.lab(rgb, self.light) * STEPS + 0.5)
        lesion = segment(lab)
        features = describe(rgb, lab, lesion)
        return {"lesion_mask": lesion.mask.to(torch.uint8), "features": features}


class Profiles(nn.Module):
    """Statistical profiles of the classes: which one a lesion's features resemble most.

    The logarithm of each class's probability is linear in the features, all classes being as likely
    beforehand. ``training.screen`` fits them. Where no lesion was found, every class is as likely.

    Args:
        classes: number of classes.
    """

    LIMIT = 5.0
    """Standard deviations beyond which a feature is cut."""

    mean: Tensor
    scale: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(SCREEN_FEATURES)))
        self.register_buffer("scale", torch.ones(len(SCREEN_FEATURES)))
        self.linear = nn.Linear(len(SCREEN_FEATURES), classes)

    def forward(self, features: Tensor) -> Tensor:
        """Run on float32 [n, features]: float32 [n, classes], 0..1, sums to 1."""
        standard = (features - self.mean) * self.scale
        logits = self.linear(torch.clamp(standard, -self.LIMIT, self.LIMIT))
        found = (features[:, :1] > 0.0).to(logits.dtype)  # area, the first of them
        return torch.softmax(logits * found, dim=-1)


class Screen(nn.Module):
    """``clean`` to ``preliminary``, ``lesion_mask`` and ``features``.

    Args:
        profiles: fitted.
    """

    def __init__(self, profiles: Profiles) -> None:
        super().__init__()
        self.measure = Measure()
        self.profiles = profiles

    def forward(self, clean: Tensor) -> dict[str, Tensor]:
        """Run on uint8 [n, h, w, 3]."""
        measured = self.measure(clean)
        return {"preliminary": self.profiles(measured["features"]), **measured}
