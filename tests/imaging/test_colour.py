"""Lab, ΔE76, HSV and Otsu against scikit-image."""

from __future__ import annotations

import everywhere
import numpy as np
import torch
from skimage import color, filters
from torch import Tensor, nn

from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.imaging import colour
from classkinfy_export.imaging.otsu import histogram, otsu

# Every seventh level of each colour, and what is darkest and lightest: 54,872 colours.
LEVELS = np.append(np.arange(0, 255, 7, dtype=np.uint8), np.uint8(255))
IMAGE = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(152, -1, 3)
PLANES = torch.from_numpy(IMAGE).permute(2, 0, 1)[:, None].float()


class Colours(nn.Module):
    """Lab, and how far it lies from its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("light", colour.linear_table())

    def forward(self, rgb: Tensor) -> dict[str, Tensor]:
        lab = colour.lab(rgb, self.light)
        return {"lab": lab, "delta_e": colour.delta_e(lab, lab.flip(2))}


def test_lab_and_delta_e_lie_within_a_thousandth_of_scikit_image_on_every_runtime() -> None:
    def tensor(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=shape, unit="")

    height, width = IMAGE.shape[:2]
    spec = StageSpec(
        name="colours",
        kind="screen",
        inputs=(tensor("rgb", 3, 1, height, width),),
        outputs=(tensor("lab", 3, 1, height, width), tensor("delta_e", 1, height, width)),
    )
    runs = everywhere.export(Colours(), spec)
    expected = color.rgb2lab(IMAGE)
    distance = color.deltaE_cie76(expected, expected[::-1])
    reference = runs["pytorch"](PLANES.numpy())
    for name, run in runs.items():
        given = run(PLANES.numpy())
        np.testing.assert_allclose(
            given["lab"][:, 0], expected.transpose(2, 0, 1), rtol=0, atol=1e-3, err_msg=name
        )
        np.testing.assert_allclose(given["delta_e"][0], distance, rtol=0, atol=1e-3, err_msg=name)
        for output, value in reference.items():
            np.testing.assert_array_equal(given[output], value, err_msg=f"{name}, {output}")


def test_hsv_equals_scikit_image() -> None:
    given = colour.hsv(PLANES)[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(given - color.rgb2hsv(IMAGE)).max() < 1e-6


def test_otsu_equals_scikit_image() -> None:
    levels = np.clip(np.random.default_rng(1).normal([60, 160], 20, (2000, 2)), 0, 255).astype(int)
    counts = histogram(torch.from_numpy(levels.reshape(1, -1)).float())
    assert (counts[0].numpy() == np.bincount(levels.ravel(), minlength=256)).all()
    assert float(otsu(counts)) == filters.threshold_otsu(levels)
