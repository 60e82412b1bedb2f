"""What a camera gives, read in the graph: layouts and sizes, the same bytes on every runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import everywhere
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from classkinfy_export import layouts, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, WorkingSize, image_spec, prepare_spec
from classkinfy_export.data.synthetic import lesion
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity.verify import verify
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages.front_end import FrontEnd
from classkinfy_export.stages.prepare import Prepare

Pixels = npt.NDArray[np.uint8]

SIZE = WorkingSize(height=90, width=120)
CAPTURES = [
    Capture(height=144, width=192, layout="rgba"),
    Capture(height=90, width=120, layout="nv21"),
    Capture(height=78, width=104, layout="nv21"),
]


def pictures(height: int, width: int) -> dict[str, Pixels]:
    rng = np.random.default_rng(0)
    return {
        "lesion": lesion("mel", 3, height=height, width=width, hair=0.0).image,
        "noise": rng.integers(0, 256, (height, width, 3), np.uint8),
        "bits": (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
    }


def jfif(nv21: Pixels) -> npt.NDArray[np.float64]:
    """RGB by the formulas of ITU-T T.871, in floats: uint8 [1, 3h/2, w] to [h, w, 3]."""
    height = nv21.shape[1] * 2 // 3
    luma = nv21[0, :height].astype(np.float64)
    v, u = (
        nv21[0, height:, start::2].repeat(2, axis=0).repeat(2, axis=1) - 128.0 for start in (0, 1)
    )
    rgb = (luma + 1.402 * v, luma - 0.344136 * u - 0.714136 * v, luma + 1.772 * u)
    return np.clip(np.stack(rgb, axis=-1), 0, 255)


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_every_runtime_reads_a_capture_to_the_same_bytes(capture: Capture) -> None:
    # With the hair left in, ``clean`` is what the front end gives.
    prepare = Prepare(False, FrontEnd(capture, SIZE))
    read = everywhere.export(prepare, prepare_spec(capture, SIZE))
    for name, picture in pictures(*capture.as_tuple()).items():
        image = layouts.encode(picture[None], capture.layout)
        assert image.shape == image_spec(capture).shape
        clean = read["pytorch"](image)["clean"]
        for runtime in ("onnxruntime", "litert"):
            given = read[runtime](image)["clean"]
            np.testing.assert_array_equal(given, clean, err_msg=f"{runtime} {name}")
        rgb = picture if capture.layout != "nv21" else np.rint(jfif(image)).astype(np.uint8)
        wanted = np.asarray(
            Image.fromarray(rgb).resize((SIZE.width, SIZE.height), Image.Resampling.BILINEAR)
        )
        apart = np.abs(clean[0].astype(int) - wanted)
        assert apart.max() <= 1, name
        assert (apart > 0).mean() <= 0.01, name


def test_nv21_is_libjpegs_arithmetic() -> None:
    """Every luma with every pair of chroma that a block can hold, against the float formula."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (1, 1536, 1024), np.uint8)
    capture = Capture(height=1024, width=1024, layout="nv21")
    front_end = FrontEnd(capture, WorkingSize(height=1024, width=1024))
    given = front_end(torch.from_numpy(image), torch.uint8)[:, 0].permute(1, 2, 0).numpy()
    apart = np.abs(given - jfif(image))
    assert apart.max() <= 1.0
    # libjpeg rounds the colour differences, of which green has two: at most half a level each.
    assert (apart > 0.51).mean() < 0.001


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_grey_has_no_colour(dtype: torch.dtype) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    capture = Capture(height=16, width=16, layout="nv21")
    image = torch.from_numpy(layouts.encode(grey, "nv21"))
    planes = FrontEnd(capture, WorkingSize(height=16, width=16))(image, dtype)
    np.testing.assert_array_equal(planes[:, 0].permute(1, 2, 0).numpy(), grey[0])


def test_a_photo_laid_out_as_nv21_comes_back() -> None:
    picture = lesion("bcc", 1, height=90, width=120, hair=0.0).image
    smooth = np.array(Image.fromarray(picture).resize((15, 12)).resize((120, 90)))
    luma = np.rint(smooth @ np.array([0.299, 0.587, 0.114]))
    image = layouts.encode(smooth[None], "nv21")
    np.testing.assert_array_equal(image[0, :90], luma)
    assert np.abs(jfif(image) - smooth).mean() < 1.5


@pytest.mark.slow
def test_a_bundle_takes_what_the_camera_gives(
    checkpoints: Callable[[str], Sources], tmp_path: Path
) -> None:
    recipe = ExportRecipe(
        name="camera",
        capture=Capture(height=120, width=160, layout="nv21"),
        working_size=WorkingSize(height=96, width=128),
        forms=("fused",),
    )
    sources = dataclasses.replace(checkpoints("separate"), graders={})
    bundle = export.export(sources, recipe, tmp_path / "bundle")
    photo = tmp_path / "photo.png"
    Image.fromarray(lesion("nv", 5, hair=1.0).image).save(photo)
    for report in (verify(bundle), verify(bundle, [photo])):
        assert report.passed, report.failures()
        assert {(row.runtime, row.form) for row in report.tensors} >= {
            ("onnxruntime", "fused"),
            ("litert", "fused"),
        }
    answers = []
    for name in ("onnxruntime", "litert"):
        with runtimes.get(name).open(Bundle.open(bundle.path)) as engine:
            answers.append(Session(engine, "fused").predict(photo).diagnosis)
    assert answers[0] == answers[1]
