"""PyTorch's own preprocessing is held to Pillow and OpenCV: a fault of its own does not pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.resize import without_antialiasing
from PIL import Image

from classkinfy_export import resampling
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, WorkingSize
from classkinfy_export.data import synthetic
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity.compare import TensorParity
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.parity.verify import verify
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.reporting.junit import junit
from classkinfy_export.reporting.summary import summary
from classkinfy_export.stages import prepare

ONNX = ("onnxruntime",)
QUICK = {"formats": ("pytorch", "onnx"), "forms": ("staged",), "golden": False}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number, dx in enumerate(("mel", "nv", "bcc")):
        path = folder / f"{dx}.png"
        drawn = synthetic.lesion(dx, number, height=240, width=320, hair=1.0)
        Image.fromarray(drawn.image).save(path)
        paths.append(path)
    return paths


def own(report: ParityReport) -> dict[str, TensorParity]:
    """What the reference was held to."""
    return {t.tensor: t for t in report.tensors if t.runtime == "pytorch"}


def failing(report: ParityReport) -> set[str]:
    return {f"{t.runtime} {t.tensor}" for t in report.tensors if not t.passed}


def test_the_reference_is_held_to_pillow_and_opencv(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    report = verify(Bundle.open(trunk_bundle), photos, names=ONNX)
    assert report.passed
    rows = own(report)
    assert {name: (row.stage, row.tolerance) for name, row in rows.items()} == {
        "gray against OpenCV": ("prepare", 0.0),
        "hair mask against OpenCV": ("prepare", 0.0),
        "clean outside hair against Pillow": ("prepare", 0.0),
        "resized 64 against Pillow": ("classify", 1.0),
    }
    assert {(row.gate, row.images) for row in rows.values()} == {("preprocessing", len(photos))}
    resized = rows["resized 64 against Pillow"]
    assert resized.unequal < 0.01
    assert resized.minimum_tolerance <= 1.0
    assert 'name="preprocessing: classify"' in junit(report)
    assert "resized 64 against Pillow" in summary(report)
    (mapped,) = (errors for errors in report.maps if errors.runtime == "pytorch")
    assert [row.tensor for row in mapped.tensors] == list(rows)
    assert mapped.differences.shape == (4, len(photos))


def test_a_resize_without_antialiasing_in_pytorch_itself_is_caught_by_pillow_alone(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling, "matrix", without_antialiasing)
    recipe = small_recipe.model_copy(update=QUICK)
    bundle = export.export(checkpoints("separate"), recipe, tmp_path / "bundle")
    report = verify(bundle, photos, names=ONNX)
    assert failing(report) == {"pytorch resized 64 against Pillow"}, "runtimes repeat the fault"
    assert not report.passed
    (line,) = report.failures()
    assert line.startswith("preprocessing: pytorch fp32 staged, stage classify: resized 64 against")
    assert "pytorch resized 64 against Pillow" in summary(report).replace(" | ", " ")
    assert 'failures="2"' in junit(report).splitlines()[1], "the gate, and the verdict"


def test_a_hair_mask_and_gray_that_are_not_opencvs_are_caught(
    trunk_bundle: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "HAIR_THRESHOLD", 11.0)
    report = verify(Bundle.open(trunk_bundle), photos, names=ONNX)
    assert not own(report)["hair mask against OpenCV"].passed
    assert own(report)["gray against OpenCV"].passed
    monkeypatch.undo()

    def unweighted(rgb: torch.Tensor) -> torch.Tensor:
        return rgb.to(torch.float32).mean(dim=0)[:, None].to(rgb.dtype)

    monkeypatch.setattr(prepare, "gray", unweighted)
    report = verify(Bundle.open(trunk_bundle), photos, names=ONNX)
    assert not own(report)["gray against OpenCV"].passed


def test_without_opencv_its_steps_are_not_run_and_the_gate_stands(
    trunk_bundle: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    report = verify(Bundle.open(trunk_bundle), photos, names=ONNX)
    assert report.passed, "OpenCV was not asked for by name"
    assert set(own(report)) == {"resized 64 against Pillow"}
    (missing,) = report.not_run
    assert missing.runtime == "OpenCV beside PyTorch"
    assert "pip install opencv-python-headless" in missing.reason


def test_a_capture_that_is_scaled_and_not_cleaned_is_held_to_pillow(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    scaled = {
        "capture": Capture(height=240, width=320),
        "working_size": WorkingSize(height=96, width=128),
        "hair_removal": False,
    }
    recipe = small_recipe.model_copy(update=QUICK | scaled)
    bundle = export.export(checkpoints("separate"), recipe, tmp_path / "bundle")
    report = verify(bundle, photos, names=ONNX)
    clean = own(report)["clean against Pillow"]
    assert (clean.tolerance, clean.passed) == (1.0, True)
    assert np.isfinite(clean.minimum_tolerance)
    assert clean.unequal < 0.01
