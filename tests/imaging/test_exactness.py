"""Operations of the graph, against OpenCV, Pillow and plain integers: equal, not close."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from classkinfy_export.data import synthetic
from classkinfy_export.imaging.fill import pull_push
from classkinfy_export.imaging.gray import gray
from classkinfy_export.imaging.layout import to_pixels, to_planes
from classkinfy_export.imaging.morphology import black_hat
from classkinfy_export.imaging.quality import share
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.prepare import hair_mask

Pixels = npt.NDArray[np.uint8]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "HAM10000"


def hard_images() -> Iterator[tuple[str, Pixels]]:
    rng = np.random.default_rng(0)
    yield "noise", rng.integers(0, 256, (61, 83, 3), np.uint8)
    yield "black and white", rng.integers(0, 2, (61, 83, 3), np.uint8) * np.uint8(255)
    yield "black", np.zeros((40, 40, 3), np.uint8)
    yield "white", np.full((40, 40, 3), 255, np.uint8)
    hair = np.full((45, 60, 3), 190, np.uint8)
    hair[:, 0] = hair[0] = hair[-1] = hair[:, -1] = 20
    hair[:, 30] = hair[np.arange(45), np.arange(45)] = (0, 10, 5)
    yield "one-pixel hair, at the border too", hair
    yield "lesion", synthetic.lesion("mel", 0, hair=1.0).image


HARD = pytest.mark.parametrize("image", [pytest.param(i, id=n) for n, i in hard_images()])


def planes(image: Pixels, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return to_planes(torch.from_numpy(image.copy())[None]).to(dtype)


@HARD
def test_hair_mask_and_coverage_equal_the_origins_opencv(image: Pixels) -> None:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9))
    hat = cv2.morphologyEx(luma, cv2.MORPH_BLACKHAT, kernel)
    _, expected = cv2.threshold(hat, 10, 255, cv2.THRESH_BINARY)
    given = hair_mask(gray(planes(image)))
    assert (given[0, 0].numpy() * 255 == expected).all()
    coverage = np.count_nonzero(expected) / expected.size
    assert float(share(given)) == pytest.approx(coverage, rel=2**-23)


def compare_with_pillow(images: list[Pixels], size: int) -> tuple[float, int]:
    """Return the share of values that differ from Pillow's, and the largest difference."""
    differences = []
    for image in images:
        given = to_pixels(Resize((450, 600), (size, size))(planes(image)))[0].numpy()
        pillow = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        differences.append(np.abs(given.astype(int) - np.asarray(pillow).astype(int)))
    stacked = np.stack(differences)
    return float((stacked > 0).mean()), int(stacked.max())


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
@pytest.mark.parametrize("size", [300, 260, 240, 224])
def test_on_real_images_resize_differs_from_pillow_in_a_thousandth_at_most(size: int) -> None:
    paths = sorted(SHARED.glob("HAM10000_images_part_*/*.jpg"))[::200]
    share_different, largest = compare_with_pillow([np.array(Image.open(p)) for p in paths], size)
    assert largest <= 1
    assert share_different <= 1e-3


@HARD
def test_double_precision_changes_no_byte(image: Pixels) -> None:
    hole = torch.rand((1, 1, *image.shape[:2]), generator=torch.Generator().manual_seed(0)) < 0.2
    results = []
    for dtype in (torch.float32, torch.float64):
        rgb = planes(image, dtype)
        luma = gray(rgb)
        filled = pull_push(rgb, hole.to(dtype))
        results.append([t.double().numpy() for t in (luma, black_hat(luma, 9), filled)])
    for single, double in zip(*results, strict=True):
        assert (single == double).all()


def test_filling_painted_hair_restores_the_skin() -> None:
    better = []
    for seed, dx in enumerate(("nv", "mel", "bkl", "akiec")):
        truth = synthetic.lesion(dx, seed, hair=0.0, ruler=False).image
        mask = np.zeros(truth.shape[:2], np.uint8)
        rng = np.random.default_rng(seed)
        for _ in range(12):
            ends = rng.integers(0, (600, 450), (2, 2))
            cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 255, 3)
        hairy = np.where(mask[..., None] > 0, np.uint8(35), truth)
        hole = torch.from_numpy(mask > 0)[None, None].float()
        filled = to_pixels(pull_push(planes(hairy), hole))[0].numpy()

        def psnr(image: Pixels, truth: Pixels = truth, inside: Pixels = mask) -> float:
            error = (image[inside > 0].astype(float) - truth[inside > 0]) ** 2
            return float(10 * np.log10(255**2 / error.mean()))

        better.append((psnr(hairy), psnr(filled)))
    assert all(after > before + 10 for before, after in better), better
