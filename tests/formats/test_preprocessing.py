"""Preprocessing in the files: PyTorch's bytes, OpenCV's hair, Pillow's pixels, on real photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import everywhere
import numpy as np
import numpy.typing as npt
import pytest
import torch
from everywhere import Run, Tensors
from oracles import gray as luma
from oracles import morphology
from PIL import Image
from torch import Tensor, nn

from classkinfy_export.contract import Capture, StageSpec, TensorSpec, WorkingSize, prepare_spec
from classkinfy_export.data import synthetic
from classkinfy_export.frame import frame, list_images
from classkinfy_export.imaging.gray import gray
from classkinfy_export.imaging.layout import to_planes
from classkinfy_export.imaging.morphology import black_hat
from classkinfy_export.imaging.resize import Resize
from classkinfy_export.stages.prepare import HAIR_WINDOW, Prepare, hair_mask

Pixels = npt.NDArray[np.uint8]

CAPTURE, SIZE = Capture(height=450, width=600), WorkingSize(height=450, width=600)
SIZES = (224, 240, 260, 300)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "HAM10000"
IMAGES = 200


class Preprocessing(nn.Module):
    """Everything before a network, and what lies between."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare = Prepare()
        self.resizes = nn.ModuleList([Resize(CAPTURE.as_tuple(), (s, s)) for s in SIZES])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        levels = gray(to_planes(image).to(self.prepare.level_dtype))
        outputs = self.prepare(image) | {
            "hat": black_hat(levels, HAIR_WINDOW),
            "hair": hair_mask(levels),
        }
        planes = to_planes(outputs["clean"]).to(torch.float32)
        return outputs | {
            f"at_{size}": resize(planes) for size, resize in zip(SIZES, self.resizes, strict=True)
        }


def spec() -> StageSpec:
    plane = (1, 1, *CAPTURE.as_tuple())
    given = {"hat": plane, "hair": plane} | {f"at_{size}": (3, 1, size, size) for size in SIZES}
    whole = prepare_spec(CAPTURE, SIZE)
    tensors = tuple(
        TensorSpec(name=name, dtype="float32", shape=shape, unit="level")
        for name, shape in given.items()
    )
    return whole.model_copy(update={"outputs": (*whole.outputs, *tensors)})


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return everywhere.export(Preprocessing(), spec())


def check(image: Pixels, runs: dict[str, Run]) -> Tensors:
    """Compare the runtimes with PyTorch, and PyTorch with OpenCV; give PyTorch's tensors."""
    reference = runs["pytorch"](image)
    for name in ("onnxruntime", "litert"):
        given = runs[name](image)
        for tensor, value in reference.items():
            np.testing.assert_array_equal(given[tensor], value, err_msg=f"{name}, {tensor}")
    hat = morphology.black_hat(luma.gray(image[0]), HAIR_WINDOW)
    np.testing.assert_array_equal(reference["hat"][0, 0], hat)
    np.testing.assert_array_equal(reference["hair"][0, 0] > 0, hat > 10)
    coverage = np.count_nonzero(hat > 10) / hat.size
    assert float(reference["quality"][0, 0]) == pytest.approx(coverage, rel=2**-23)
    laplacian = cv2.Laplacian(luma.gray(image[0]), cv2.CV_32F, ksize=1).astype(np.float64)
    assert float(reference["quality"][0, 1]) == pytest.approx(laplacian.var(), rel=1e-5, abs=1e-3)
    return reference


def pillow(clean: Pixels, size: int) -> Pixels:
    resized = Image.fromarray(clean).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8)


def hard_images() -> dict[str, Pixels]:
    rng = np.random.default_rng(0)
    shape = (*CAPTURE.as_tuple(), 3)
    skin = np.full(shape, 190, np.uint8)
    skin[:, 0] = skin[0] = skin[-1] = skin[:, -1] = 20
    skin[:, 300] = skin[np.arange(450), np.arange(450)] = (0, 10, 5)
    return {
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "noise": rng.integers(0, 256, shape, np.uint8),
        "odd colours": rng.integers(0, 2, shape, np.uint8) * np.uint8(255),
        "one-pixel hair, at the border too": skin,
        "nothing but hair": np.tile(np.array([0, 255] * 300, np.uint8)[:, None], (450, 1, 3)),
        "lesion": synthetic.lesion("mel", 0, hair=1.0).image,
    }


@pytest.mark.parametrize("name", hard_images())
def test_hard_images_are_the_same_bytes_everywhere(name: str, runs: dict[str, Run]) -> None:
    check(hard_images()[name][None], runs)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data set is not here")
def test_real_photos_are_the_same_bytes_everywhere(runs: dict[str, Run]) -> None:
    photos = list_images(SHARED)
    differing = dict.fromkeys(SIZES, 0)
    for path in photos[:: len(photos) // IMAGES][:IMAGES]:
        given = check(frame(path, CAPTURE), runs)
        for size in SIZES:
            levels = given[f"at_{size}"][:, 0].transpose(1, 2, 0).astype(np.int64)
            difference = np.abs(levels - pillow(given["clean"][0], size))
            assert difference.max() <= 1
            differing[size] += int(np.count_nonzero(difference))
    shares = {size: count / (IMAGES * size * size * 3) for size, count in differing.items()}
    assert shares[300] == 0
    assert max(shares.values()) <= 1e-3, shares
