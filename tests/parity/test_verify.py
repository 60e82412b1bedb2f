"""The gate catches what it is there to catch, and says which tensor of which runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.parity.compare import Accumulator
from classkinfy_export.parity.verify import ParityReport, verify


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number, dx in enumerate(("mel", "nv", "bcc", "akiec", "vasc", "df")):
        path = folder / f"{dx}.png"
        Image.fromarray(synthetic.lesion(dx, number, height=96, width=128).image).save(path)
        paths.append(path)
    return paths


def altered(
    source: Path, target: Path, stage: str, change: Callable[[onnx.ModelProto], None]
) -> Bundle:
    """Copy a bundle, change one ONNX file, and pin the result: a bad export, not a bad copy."""
    shutil.copytree(source, target)
    path = target / "models" / "onnx" / f"{stage}.onnx"
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    manifest = Bundle.open(source).manifest
    writer.seal(target, manifest.model_copy(update={"files": writer.pin(target)}))
    return Bundle.open(target)


def failing(report: ParityReport) -> set[tuple[str, str, str]]:
    return {(t.runtime, t.form, t.tensor) for t in report.tensors if not t.passed}


def largest(model: onnx.ModelProto) -> onnx.TensorProto:
    return max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))


def test_a_true_bundle_passes_on_photos(trunk_bundle: Path, photos: list[Path]) -> None:
    report = verify(Bundle.open(trunk_bundle), photos)
    assert report.passed
    assert report.reference == "pytorch"
    assert {(d.runtime, d.form) for d in report.decisions} == {
        (runtime, form) for runtime in ("onnxruntime", "litert") for form in ("staged", "fused")
    }
    by_name = {t.tensor: t for t in report.tensors if t.runtime == "onnxruntime"}
    assert by_name["clean"].minimum_tolerance == 0.0
    assert 0.0 < by_name["probabilities"].minimum_tolerance <= 1e-5, "exactly 0 would be odd"
    assert all(f"severity_{dx}" in by_name for dx in ("akiec", "mel", "nv")), "each has its turn"


def test_a_perturbed_weight_is_caught_in_its_stage_and_form_alone(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    def perturb(model: onnx.ModelProto) -> None:
        tensor = largest(model)
        values = numpy_helper.to_array(tensor) * np.float32(1.001)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))

    bundle = altered(trunk_bundle, tmp_path / "bundle", "classify", perturb)
    report = verify(bundle, photos)
    assert not report.passed
    assert ("onnxruntime", "staged", "probabilities") in failing(report)
    assert not any(runtime == "litert" or form == "fused" for runtime, form, _ in failing(report))
    assert not any(tensor in ("clean", "quality") for _, _, tensor in failing(report))
    assert any("onnxruntime staged: probabilities differs by" in f for f in report.failures())


def test_reordered_labels_are_caught_as_flips(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    def swap(model: onnx.ModelProto) -> None:
        order = np.array([1, 2, 3, 4, 5, 6, 0], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(order, "swap_order"))
        for node in model.graph.node:
            for i, name in enumerate(node.output):
                if name == "probabilities":
                    node.output[i] = "unswapped"
        model.graph.node.append(
            onnx.helper.make_node("Gather", ["unswapped", "swap_order"], ["probabilities"], axis=1)
        )

    report = verify(altered(trunk_bundle, tmp_path / "bundle", "classify", swap), photos)
    flips = {(d.runtime, d.form): d.label_flips for d in report.decisions}
    assert not report.passed
    assert flips["onnxruntime", "staged"] == len(photos)
    assert flips["litert", "staged"] == 0


def test_a_swapped_channel_order_is_caught_in_preprocessing(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    def swap(model: onnx.ModelProto) -> None:
        order = np.array([2, 1, 0], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(order, "bgr"))
        for node in model.graph.node:
            node.input[:] = ["swapped" if name == "image" else name for name in node.input]
        model.graph.node.insert(
            0, onnx.helper.make_node("Gather", ["image", "bgr"], ["swapped"], axis=3)
        )

    report = verify(altered(trunk_bundle, tmp_path / "bundle", "prepare", swap), photos)
    assert ("onnxruntime", "staged", "clean") in failing(report)


def test_golden_vectors_need_no_reference_and_catch_the_same(
    trunk_bundle: Path, tmp_path: Path
) -> None:
    clean = verify(Bundle.open(trunk_bundle))
    assert clean.passed
    assert clean.reference == "golden vectors"

    def offset(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if list(tensor.dims) == [7]:
                values = numpy_helper.to_array(tensor) + np.linspace(0, 1, 7, dtype=np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    report = verify(altered(trunk_bundle, tmp_path / "bundle", "classify", offset))
    assert ("onnxruntime", "staged", "probabilities") in failing(report)


def test_nothing_run_is_nothing_passed(trunk_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "classkinfy_export.runtimes.litert.LitertRuntime.version", lambda self: None
    )
    report = verify(Bundle.open(trunk_bundle), names=["litert"])
    assert not report.passed
    assert report.not_run[0].runtime == "litert"
    assert "pip install" in report.not_run[0].reason
    some = verify(Bundle.open(trunk_bundle), names=["onnxruntime", "litert"])
    assert some.tensors
    assert not some.passed, "a runtime that was asked for did not run"


def test_differences_are_measured_as_numpy_measures_them() -> None:
    rng = np.random.default_rng(0)
    accumulator = Accumulator("r", "staged", "t", tolerance=0.5)
    differences = []
    for number in range(5):
        wanted = rng.normal(size=(1, 8)).astype(np.float32)
        given = wanted + rng.normal(size=(1, 8)).astype(np.float32) * np.float32(0.1)
        differences.append(np.abs(wanted.astype(float) - given.astype(float)))
        accumulator.add(f"image{number}", wanted, given)
    result = accumulator.result()
    everything = np.concatenate(differences)
    worst = np.unravel_index(everything.argmax(), everything.shape)
    assert result.minimum_tolerance == everything.max()
    assert result.mean_error == pytest.approx(everything.mean(), rel=1e-12)
    assert (result.worst_image, result.worst_index[1]) == (f"image{worst[0]}", worst[1])
    assert result.passed == (everything.max() <= 0.5)


def test_nan_is_equal_to_nan_and_infinitely_far_from_a_number() -> None:
    nan, one = np.full((1, 3), np.nan, np.float32), np.ones((1, 3), np.float32)
    for wanted, given, distance in ((nan, nan, 0.0), (nan, one, np.inf), (one, nan, np.inf)):
        accumulator = Accumulator("r", "staged", "severity", tolerance=1.0, nan_is_equal=True)
        accumulator.add("image", wanted, given)
        assert accumulator.result().minimum_tolerance == distance
    accumulator = Accumulator("r", "staged", "probabilities", tolerance=1.0)
    accumulator.add("image", nan, nan)
    assert not accumulator.result().passed, "only what is not graded may be NaN"
    accumulator = Accumulator("r", "staged", "t", tolerance=1.0)
    accumulator.add("image", one, one.astype(np.float64))
    assert not accumulator.result().passed, "another dtype is not equal"
