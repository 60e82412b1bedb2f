"""The gate catches what it is there to catch, and says which tensor of which runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from altered import altered
from onnx import helper, numpy_helper
from oracles.resize import without_antialiasing
from PIL import Image

from classkinfy_export import resampling
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.errors import BundleError
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.parity.verify import verify
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.tolerances import ParityRecipe, RuntimeParity

ONNX = ("onnxruntime",)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number, dx in enumerate(("mel", "nv", "bcc", "akiec", "vasc", "df")):
        path = folder / f"{dx}.png"
        Image.fromarray(synthetic.lesion(dx, number, height=96, width=128).image).save(path)
        paths.append(path)
    return paths


def failing(report: ParityReport) -> set[tuple[str, str, str]]:
    return {(t.runtime, t.form, t.tensor) for t in report.tensors if not t.passed}


def largest(model: onnx.ModelProto) -> onnx.TensorProto:
    return max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))


def times_nan(tensor: str) -> Callable[[onnx.ModelProto], None]:
    """Return a change after which a stage gives NaN for a tensor."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["number" if name == tensor else name for name in node.output]
            node.input[:] = ["number" if name == tensor else name for name in node.input]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(np.nan), "nan"))
        model.graph.node.append(helper.make_node("Mul", ["number", "nan"], [tensor]))

    return change


def test_a_true_bundle_passes_on_photos(trunk_bundle: Path, photos: list[Path]) -> None:
    report = verify(Bundle.open(trunk_bundle), photos)
    assert report.passed
    assert report.reference == "pytorch"
    assert {(d.runtime, d.form) for d in report.decisions} == {
        (runtime, form)
        for runtime in ("onnxruntime", "litert", "litert-reference", "tensorflow")
        for form in ("staged", "fused")
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
    report = verify(bundle, photos, names=("onnxruntime", "litert"))
    assert not report.passed
    assert ("onnxruntime", "staged", "probabilities") in failing(report)
    assert not any(runtime == "litert" or form == "fused" for runtime, form, _ in failing(report))
    assert not any(tensor in ("clean", "quality") for _, _, tensor in failing(report))
    told = "tensors: onnxruntime fp32 staged, stage classify: probabilities differs by"
    assert any(told in failure for failure in report.failures())


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

    report = verify(
        altered(trunk_bundle, tmp_path / "bundle", "classify", swap),
        photos,
        names=("onnxruntime", "litert"),
    )
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

    report = verify(altered(trunk_bundle, tmp_path / "bundle", "prepare", swap), photos, names=ONNX)
    assert ("onnxruntime", "staged", "clean") in failing(report)
    told = "preprocessing: onnxruntime fp32 staged, stage prepare: clean differs by"
    assert any(told in failure for failure in report.failures())


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

    report = verify(altered(trunk_bundle, tmp_path / "bundle", "classify", offset), names=ONNX)
    assert ("onnxruntime", "staged", "probabilities") in failing(report)


@pytest.mark.parametrize(
    "told", [{"dtype": "int32"}, {"shape": [1, 128, 96, 3]}], ids=["dtype", "shape"]
)
def test_a_golden_tensor_of_the_same_bytes_and_another_kind_is_another(
    trunk_bundle: Path, tmp_path: Path, told: dict[str, object]
) -> None:
    shutil.copytree(trunk_bundle, tmp_path / "bundle")
    index = tmp_path / "bundle" / "golden" / "golden.json"
    content = json.loads(index.read_text())
    content["cases"][0]["tensors"]["clean"] |= told
    index.write_text(json.dumps(content))
    manifest = Bundle.open(trunk_bundle).manifest
    pinned = writer.pin(tmp_path / "bundle")
    writer.seal(tmp_path / "bundle", manifest.model_copy(update={"files": pinned}))
    report = verify(Bundle.open(tmp_path / "bundle"), names=ONNX)
    assert failing(report) == {("onnxruntime", "staged", "clean")}


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


def test_a_stale_temperature_is_caught_though_no_label_flips(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    def sharpen(model: onnx.ModelProto) -> None:
        (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "stale"))
        position = list(model.graph.node).index(softmax)
        scaled = helper.make_node("Mul", [softmax.input[0], "stale"], ["scaled"])
        softmax.input[0] = "scaled"
        model.graph.node.insert(position, scaled)

    bundle = altered(trunk_bundle, tmp_path / "bundle", "classify", sharpen)
    report = verify(bundle, photos, names=ONNX)
    assert failing(report) == {
        ("onnxruntime", "staged", tensor) for tensor in ("probabilities", "confidence")
    }
    assert {t.gate for t in report.tensors if not t.passed} == {"tensors"}
    assert all(d.flips == 0 and d.largest_shift > 0 for d in report.decisions if d.form == "staged")


def test_a_transposed_tensor_is_caught_in_the_stage_that_transposes(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    def transpose(model: onnx.ModelProto) -> None:
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "as_it_was"))
        for node in model.graph.node:
            node.input[:] = ["turned" if name == "clean" else name for name in node.input]
        turn = helper.make_node("Transpose", ["clean"], ["columns_first"], perm=[0, 2, 1, 3])
        model.graph.node.insert(0, turn)
        again = helper.make_node("Reshape", ["columns_first", "as_it_was"], ["turned"])
        model.graph.node.insert(1, again)

    bundle = altered(trunk_bundle, tmp_path / "bundle", "classify", transpose)
    failures = verify(bundle, photos, names=ONNX).failures()
    told = "tensors: onnxruntime fp32 staged, stage classify: embedding differs by"
    assert any(told in failure for failure in failures)
    assert not any(failure.startswith("preprocessing") for failure in failures)


def test_graders_wired_to_each_others_diagnosis_are_caught(
    separate_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(separate_bundle, tmp_path / "bundle")
    models = tmp_path / "bundle" / "models" / "onnx"
    first, second = (models / f"grade_{dx}.onnx" for dx in ("mel", "nv"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    manifest = Bundle.open(separate_bundle).manifest
    pinned = writer.pin(tmp_path / "bundle")
    writer.seal(tmp_path / "bundle", manifest.model_copy(update={"files": pinned}))
    report = verify(Bundle.open(tmp_path / "bundle"), photos, names=ONNX)
    wrong = {t.stage for t in report.tensors if not t.passed and t.tensor.startswith("severity_")}
    assert wrong == {"grade_mel", "grade_nv"}
    assert all(d.label_flips == 0 for d in report.decisions)


def test_a_resize_that_does_not_antialias_is_caught_in_the_stage_that_resizes(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = small_recipe.model_copy(
        update={"formats": ("pytorch", "onnx"), "forms": ("staged",), "golden": False}
    )
    with monkeypatch.context() as patched:
        patched.setattr(resampling, "matrix", without_antialiasing)
        bundle = export.export(checkpoints("separate"), recipe, tmp_path / "bundle")
    report = verify(bundle, photos, names=ONNX)
    assert {t.stage for t in report.tensors if not t.passed} >= {"classify", "grade_mel"}
    assert not any(t.gate == "preprocessing" for t in report.tensors if not t.passed)


def test_a_recipe_loosens_a_runtime_and_limits_its_images(
    trunk_bundle: Path, photos: list[Path]
) -> None:
    of = {"onnxruntime": RuntimeParity(images=2, looser=100.0, flip_rate=0.9)}
    report = verify(Bundle.open(trunk_bundle), photos, recipe=ParityRecipe(runtimes=of), names=ONNX)
    assert report.passed
    assert {t.images for t in report.tensors if not t.tensor.startswith("severity_")} == {2}
    assert {t.tolerance for t in report.tensors if t.tensor == "probabilities"} == {1e-3}
    assert {t.tolerance for t in report.tensors if t.tensor == "clean"} == {0.0}, (
        "exact stays exact"
    )
    assert [(d.images, d.images_needed, d.proven) for d in report.decisions] == [(2, 2, True)] * 2


def test_what_was_seen_is_not_run_again_until_the_bundle_or_an_image_changes(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = Session.run

    def counted(self: Session, *args: object, **kwargs: object) -> object:
        ran.append(self.engine.format)
        return run(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "run", counted)
    bundle = Bundle.open(trunk_bundle)
    first = verify(bundle, photos, names=ONNX, cache=tmp_path)
    assert len(ran) == 3 * len(photos), "the reference, staged and fused"
    ran.clear()
    assert verify(bundle, photos, names=ONNX, cache=tmp_path) == first
    assert not ran
    more = [*photos, photos[0].with_name("another.png")]
    Image.fromarray(synthetic.lesion("mel", 77, height=96, width=128).image).save(more[-1])
    assert verify(bundle, more, names=ONNX, cache=tmp_path).images == len(more)
    assert len(ran) == 3
    ran.clear()
    kept = sorted(tmp_path.glob("onnxruntime-*"))
    kept[0].write_text(kept[0].read_text()[:-40])  # killed while it wrote
    verify(bundle, more, names=ONNX, cache=tmp_path)
    assert len(ran) == 2, "the reference, and the form whose last line was cut"
    ran.clear()

    def perturb(model: onnx.ModelProto) -> None:
        tensor = largest(model)
        values = numpy_helper.to_array(tensor) * np.float32(1.5)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))

    other = altered(trunk_bundle, tmp_path / "other", "classify", perturb)
    assert not verify(other, more, names=ONNX, cache=tmp_path).passed
    assert len(ran) == 3 * len(more)


def test_an_infinite_difference_is_kept_as_one(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    bundle = altered(trunk_bundle, tmp_path / "bundle", "classify", times_nan("embedding"))
    first = verify(bundle, photos[:2], names=ONNX, cache=tmp_path / "cache")
    again = verify(bundle, photos[:2], names=ONNX, cache=tmp_path / "cache")
    assert ("onnxruntime", "staged", "embedding") in failing(first)
    assert again == first
    assert json.dumps(again.model_dump(mode="json")) == json.dumps(first.model_dump(mode="json"))


def test_a_bundle_is_compared_with_another_in_the_same_runtime(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    def perturb(model: onnx.ModelProto) -> None:
        tensor = largest(model)
        values = numpy_helper.to_array(tensor) * np.float32(1.5)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))

    old = Bundle.open(trunk_bundle)
    same = verify(old, photos, against=old, names=ONNX)
    assert same.passed
    assert same.reference == f"small {old.sha256[:12]}"
    assert {t.minimum_tolerance for t in same.tensors} == {0.0}, "the same kernels"
    new = altered(trunk_bundle, tmp_path / "bundle", "classify", perturb)
    changed = verify(new, photos, against=old, names=("onnxruntime", "litert"))
    assert {t[0] for t in failing(changed)} == {"onnxruntime"}
    assert any(t.minimum_tolerance == 0.0 for t in changed.tensors if t.tensor == "clean")
    with pytest.raises(BundleError, match="compared on photos: give --images"):
        verify(new, against=old)


def test_a_runtime_or_form_that_one_of_two_bundles_lacks_is_not_run(
    trunk_bundle: Path,
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    recipe = small_recipe.model_copy(
        update={"formats": ("onnx",), "forms": ("fused",), "golden": False}
    )
    other = export.export(checkpoints("trunk"), recipe, tmp_path / "bundle")
    bundle = Bundle.open(trunk_bundle)
    named = verify(bundle, photos, against=other, names=ONNX)
    assert not named.passed, "the staged form was asked for too"
    assert [(m.runtime, m.reason) for m in named.not_run] == [
        ("onnxruntime fp32 staged", "the other bundle does not hold it")
    ]
    usual = verify(other, photos, against=bundle)
    assert usual.passed
    assert "onnxruntime fp32 staged" in {m.runtime for m in usual.not_run}
    assert {(d.runtime, d.form) for d in usual.decisions} == {("onnxruntime", "fused")}


def test_a_tensor_that_is_not_given_any_more_is_missed(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(trunk_bundle, tmp_path / "bundle")
    manifest = Bundle.open(trunk_bundle).manifest
    stages = tuple(
        stage.model_copy(
            update={"outputs": tuple(t for t in stage.outputs if t.name != "lesion_mask")}
        )
        for stage in manifest.stages
    )
    writer.seal(tmp_path / "bundle", manifest.model_copy(update={"stages": stages}))
    lost = Bundle.open(tmp_path / "bundle")
    for report in (
        verify(lost, names=ONNX),
        verify(lost, photos, against=Bundle.open(trunk_bundle), names=ONNX),
    ):
        assert failing(report) == {("onnxruntime", "staged", "lesion_mask")}


def test_every_grader_has_its_turn_and_one_without_is_told(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    bundle = Bundle.open(trunk_bundle)
    graded = {s.name for s in bundle.manifest.stages if s.diagnosis}
    few = verify(bundle, photos[:1], names=ONNX, cache=tmp_path)
    assert few.passed
    untold = {row.removeprefix("onnxruntime fp32 staged: ") for row in few.not_covered}
    assert untold < graded
    assert len(untold) >= len(graded) - 2
    every = verify(bundle, photos[: len(graded)], names=ONNX, cache=tmp_path)
    assert every.not_covered == ()
    again = verify(bundle, photos[len(graded) - 1 :: -1], names=ONNX, cache=tmp_path)
    assert again.not_covered == (), "in another order each image has another grader's turn"


def test_copies_of_an_image_prove_nothing_more(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    copies = [shutil.copy(photos[0], tmp_path / f"{n}.png") for n in range(5)]
    report = verify(Bundle.open(trunk_bundle), [Path(c) for c in copies], names=ONNX)
    assert report.images == 1
    assert {d.images for d in report.decisions} == {1}


def test_a_runtime_that_cannot_go_on_fails_and_leaves_the_others(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    bundle = altered(trunk_bundle, tmp_path / "bundle", "classify", times_nan("probabilities"))
    report = verify(bundle, photos, names=("onnxruntime", "litert"))
    assert not report.passed
    (broken,) = report.not_run
    assert broken.runtime == "onnxruntime fp32 staged"
    assert broken.broke
    told = "it failed on mel: stage classify gives 7 of 7 values of probabilities as NaN"
    assert told in broken.reason
    assert {(d.runtime, d.form) for d in report.decisions if d.passed} == {
        *(("litert", form) for form in ("staged", "fused")),
        ("onnxruntime", "fused"),
    }


def test_a_severity_that_is_not_a_number_is_equal_only_where_nothing_is_graded(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    bundle = altered(trunk_bundle, tmp_path / "bundle", "grade_mel", times_nan("severity"))
    report = verify(bundle, photos, against=bundle, names=ONNX)
    assert ("onnxruntime", "staged", "severity_mel") in failing(report), "NaN is no grade"


def test_a_strange_name_does_not_break_a_report(
    trunk_bundle: Path, photos: list[Path], tmp_path: Path
) -> None:
    strange = tmp_path / "a\x01\udcff<b>.png"
    strange.write_bytes(photos[0].read_bytes())
    report = verify(Bundle.open(trunk_bundle), [strange], names=ONNX)
    assert {t.worst_image for t in report.tensors} == {"a\ufffd\ufffd<b>"}
