"""What training does to images, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from classkinfy_export.recipes import AugmentRecipe
from classkinfy_export.training.augment import Augment

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8))
NOTHING = {"flips": False, "colour": 0.0, "white_balance": 0.0}


def augmented(pixels: torch.Tensor, aspect: float = 4 / 3, **settings: Any) -> torch.Tensor:
    torch.manual_seed(0)
    recipe = AugmentRecipe.model_validate(NOTHING | settings)
    return Augment(recipe, pixels.shape[1], aspect)(pixels)


def plain(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2).float()


def test_nothing_asked_and_nothing_in_validation_changes_nothing() -> None:
    assert torch.equal(augmented(PIXELS), plain(PIXELS))
    recipe = AugmentRecipe(rotation=180, scale=0.3, shift=0.1, colour=0.5, hair=1, vignette=1)
    assert torch.equal(Augment(recipe, 32, 1.0).eval()(PIXELS), plain(PIXELS))


@pytest.mark.parametrize("scale", [0.0, 1e-7])
def test_flips_keep_every_pixel_and_all_four_occur(scale: float) -> None:
    """Alone, and as part of a movement."""
    given, before = augmented(PIXELS, flips=True, scale=scale), plain(PIXELS)
    seen = []
    for after, image in zip(given, before, strict=True):
        flips = {dims: image.flip(dims) for dims in ((), (1,), (2,), (1, 2))}
        seen += [d for d, flipped in flips.items() if (after - flipped).abs().max() < 0.01]
    assert len(seen) == len(PIXELS)
    assert min(seen.count(dims) for dims in set(seen)) > 8
    assert len(set(seen)) == 4


def test_a_disc_on_the_photo_stays_a_disc_when_it_is_turned() -> None:
    """The photo, 4 by 3, was squashed to a square: there the disc is an ellipse."""
    y, x = np.mgrid[:96, :96] / 95 * 2 - 1
    disc = ((x * 4 / 3) ** 2 + y**2 < 0.25).astype(np.uint8) * 200
    pixels = torch.from_numpy(disc)[None, :, :, None].repeat(4, 1, 1, 3)
    turned = augmented(pixels, rotation=180.0)
    assert (turned - plain(pixels)).abs().mean() < 3
    wrong = augmented(pixels, aspect=1.0, rotation=180.0)
    assert (wrong - plain(pixels)).abs().mean() > 5


def test_scaling_and_shifting_move_what_is_seen_and_fill_the_edges() -> None:
    white = torch.full((8, 32, 32, 3), 255, dtype=torch.uint8)
    assert augmented(white, rotation=45, scale=0.3, shift=0.3).min() > 254
    y, x = np.mgrid[:32, :32]
    dot = torch.from_numpy(((y - 15.5) ** 2 + (x - 15.5) ** 2 < 25).astype(np.uint8) * 255)
    areas = augmented(dot[None, :, :, None].repeat(32, 1, 1, 3), scale=0.5).mean(dim=(1, 2, 3))
    assert areas.max() / areas.min() > 1.5


@pytest.mark.parametrize("amount", ["colour", "white_balance"])
def test_colours_vary_from_image_to_image_within_bounds(amount: str) -> None:
    gray = torch.full((32, 8, 8, 3), 128, dtype=torch.uint8)
    given = augmented(gray, **{amount: 0.2})
    assert torch.equal(given.amax(dim=(2, 3)), given.amin(dim=(2, 3))), "one colour an image"
    assert 128 * 0.8 - 0.1 <= given.min() < 115
    assert 141 < given.max() <= 128 * 1.2 + 0.1
    spread = (given.amax(dim=1) - given.amin(dim=1)).max()
    assert spread > 10 if amount == "white_balance" else spread < 0.1
    assert augmented(PIXELS, **{amount: 0.9}).min() >= 0
    assert augmented(PIXELS, **{amount: 0.9}).max() <= 255


def test_hair_and_dark_corners_only_darken_and_only_some_images() -> None:
    skin = torch.full((64, 96, 96, 3), 200, dtype=torch.uint8)
    for overlay in ("hair", "vignette"):
        given = augmented(skin, **{overlay: 0.5})
        assert given.max() <= 200
        darkened = (given < 190).flatten(1).any(dim=1).float().mean()
        assert 0.3 < darkened < 0.7, overlay
        assert given[:, :, 40:56, 40:56].mean() > 150, "most of the middle is left"
    hairy = augmented(skin, hair=1.0) < 150
    assert 0.001 < hairy.float().mean() < 0.2
