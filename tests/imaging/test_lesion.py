"""Segmentation: the reduced image, drawn lesions, dark corners, and experts' masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from classkinfy_export.contract import Capture
from classkinfy_export.data import masks, synthetic
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.data.splits import split
from classkinfy_export.frame import frame
from classkinfy_export.imaging.lesion import reduced
from classkinfy_export.recipes import SplitRecipe
from classkinfy_export.stages.prepare import Prepare
from classkinfy_export.stages.screen import Measure
from classkinfy_export.taxonomy import Taxonomy

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "HAM10000"
CAPTURE = Capture(height=450, width=600)


def found(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    with torch.inference_mode():
        clean = Prepare()(torch.from_numpy(image)[None])["clean"]
        return masks.enlarge(Measure()(clean)["lesion_mask"][0].numpy(), CAPTURE)


def test_reducing_averages_squares_and_rounds_half_up() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 450, 600, 3), np.uint8)
    squares = image[:, :448].reshape(2, 56, 8, 75, 8, 3).astype(np.int64).sum(axis=(2, 4))
    given = reduced(torch.from_numpy(image), 8).permute(1, 2, 3, 0).numpy()
    np.testing.assert_array_equal(given, (squares + 32) // 64)


def test_drawn_lesions_are_found() -> None:
    drawn = [synthetic.lesion(synthetic.CLASSES[seed % 7], seed) for seed in range(21)]
    overlaps = [masks.iou(found(one.image), one.mask > 0) for one in drawn]
    assert np.mean(overlaps) > 0.65, "dark skin in a dark field and pale lesions among them"


def test_what_a_dermoscope_leaves_dark_is_no_lesion() -> None:
    y, x = np.mgrid[:450, :600]
    skin = np.full((450, 600, 3), (205, 160, 140), np.uint8)
    lesion = (y - 225) ** 2 + (x - 300) ** 2 < 80**2
    skin[lesion] = (120, 70, 60)
    skin[(y - 225) ** 2 + (x - 300) ** 2 > 310**2] = 5
    given = found(skin)
    assert given[lesion].all()
    # Outlines are generous, as the experts' are: by a pixel of the mask and the box around it.
    assert not given[(y - 225) ** 2 + (x - 300) ** 2 > (80 + 24) ** 2].any()


@pytest.mark.parametrize("field", [135, 158, 180, 202, 225, 270])
@pytest.mark.parametrize("colour", [(120, 70, 60), (160, 110, 95)])
def test_a_field_smaller_than_the_frame_has_its_lesion_found(
    field: int, colour: tuple[int, int, int]
) -> None:
    y, x = np.mgrid[:450, :600]
    radius = np.hypot(y - 225, x - 300)
    skin = np.full((450, 600, 3), 3, np.uint8)
    skin[radius < field] = (205, 160, 140)
    skin[radius < 60] = colour
    given = found(skin)
    assert given[radius < 60].all()
    assert not given[radius > 60 + 24].any()


def test_a_dark_lesion_beside_the_dark_is_no_part_of_it() -> None:
    y, x = np.mgrid[:450, :600]
    skin = np.full((450, 600, 3), (205, 160, 140), np.uint8)
    skin[:, :120] = 0
    lesion = ((y - 225) / 100) ** 2 + ((x - 226) / 90) ** 2 < 1
    skin[lesion] = (25, 15, 15)
    given = found(skin)
    assert given[lesion].all()
    assert not given[:, :96].any()


def test_a_lesion_that_leaves_hardly_any_skin_is_found() -> None:
    y, x = np.mgrid[:450, :600]
    skin = np.full((450, 600, 3), (205, 160, 140), np.uint8)
    lesion = ((y - 225) / 214) ** 2 + ((x - 300) / 285) ** 2 < 1
    skin[lesion] = (120, 70, 60)
    assert masks.iou(found(skin), lesion) > 0.9


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_image_holds_no_lesion(level: int) -> None:
    assert not found(np.full((450, 600, 3), level, np.uint8)).any()


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_masks_overlap_the_experts() -> None:
    """On lesions of the test part: the constants were chosen on the training part."""
    dataset = open_dataset(SHARED, Taxonomy())
    chosen = dataset.records[split(dataset, SplitRecipe())["part"] == "test"][::12]
    overlaps = [
        masks.iou(found(frame(path, CAPTURE)[0]), masks.read(Path(mask), CAPTURE))
        for path, mask in zip(chosen["path"], chosen["mask"], strict=True)
    ]
    assert len(overlaps) >= 100
    assert np.mean(overlaps) >= 0.765
