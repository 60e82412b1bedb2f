"""One int8 file in several runtimes beside the first of its format, and that one beside PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper

from classkinfy_export import runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.parity import ranges
from classkinfy_export.parity.decide import Answer, decisions
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.parity.verify import verify
from classkinfy_export.reporting.junit import junit
from classkinfy_export.reporting.parity_page import render
from classkinfy_export.reporting.summary import summary
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe

INT8 = "static_wi8_ai8"


def edited(change: Callable[[onnx.ModelProto], None]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        change(model)
        return model.SerializeToString()

    return apply


def altered(source: Path, target: Path, file: str, change: Callable[[bytes], bytes]) -> Bundle:
    """Copy a bundle, change one file, and pin the result: a bad export, not a bad copy."""
    shutil.copytree(source, target)
    path = target / "models" / file
    path.write_bytes(change(path.read_bytes()))
    manifest = Bundle.open(source).manifest
    writer.seal(target, manifest.model_copy(update={"files": writer.pin(target)}))
    return Bundle.open(target)


def failing(report: ParityReport) -> set[tuple[str, str, str, str]]:
    return {(t.runtime, t.precision, t.form, t.tensor) for t in report.tensors if not t.passed}


def test_each_runtime_is_seen_beside_the_first_that_runs_the_same_file(
    quantised_bundle: Path, lesions: list[Path]
) -> None:
    names = ["onnxruntime", "litert", "litert-reference", "tensorflow"]
    report = verify(Bundle.open(quantised_bundle), lesions, names=names)
    assert report.failures() == []
    beside = {(d.runtime, d.precision, d.form): d.reference for d in report.decisions}
    assert beside == {
        **{(name, "fp32", form): "pytorch" for name in names for form in ("staged", "fused")},
        **{(name, INT8, "staged"): "pytorch" for name in names[:3]},
        **{(name, INT8, "fused"): f"{name} staged" for name in names[:3]},
        **{("tensorflow", INT8, form): "litert" for form in ("staged", "fused")},
    }
    assert [c.split(":")[0] for c in report.caveats] == [f"litert-reference {INT8}"]
    rows = {(t.runtime, t.precision, t.form, t.tensor): t for t in report.tensors}
    told = rows["onnxruntime", INT8, "staged", "embedding"]
    assert told.tolerance is None
    assert told.step is not None
    assert told.minimum_tolerance > told.step, "int8 is not float"
    same = rows["tensorflow", INT8, "staged", "embedding"]
    assert same.tolerance == same.step, "one step, which XNNPACK keeps wherever it runs"
    assert rows["litert-reference", INT8, "staged", "embedding"].tolerance is None, "rounds twice"
    for runtime in ("onnxruntime", "litert"):
        for tensor in ("clean", "quality", "lesion_mask"):
            assert rows[runtime, INT8, "staged", tensor].minimum_tolerance == 0.0


def test_an_onnx_range_that_is_off_by_a_tenth_is_caught_and_named(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    named = []

    def widen(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        rounding = [n for n in model.graph.node if n.op_type == "QuantizeLinear"][3]
        named.append(rounding.input[0])
        for tensor in model.graph.initializer:
            if tensor.name == rounding.input[1]:
                scale = numpy_helper.to_array(tensor) * np.float32(1.1)
                tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
        return model.SerializeToString()

    bundle = altered(quantised_bundle, tmp_path / "bundle", f"onnx/classify.{INT8}.onnx", widen)
    report = verify(bundle, lesions[:2], names=["onnxruntime"])
    caught = [t for t in report.tensors if not t.passed and t.tensor == "int8 ranges"]
    assert [(t.runtime, t.form, t.stage, t.gate) for t in caught] == [
        ("onnxruntime", "staged", "classify", "tensors")
    ]
    assert caught[0].worst_image == named[0]
    assert 0.05 <= caught[0].minimum_tolerance <= 0.1 + 1e-6, "its longer end is off by a tenth"
    told = f"tensors: onnxruntime {INT8} staged, stage classify: int8 ranges differs by 0."
    assert any(line.startswith(told) for line in report.failures())


def sharpened(model: onnx.ModelProto) -> None:
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "stale"))
    scaled = helper.make_node("Mul", [softmax.input[0], "stale"], ["scaled"])
    softmax.input[0] = "scaled"
    model.graph.node.insert(list(model.graph.node).index(softmax), scaled)


def relabelled(model: onnx.ModelProto) -> None:
    """Give ``df`` and ``vasc``, which few images are, each other's probability."""
    order = np.array([0, 1, 2, 6, 4, 5, 3], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(order, "order"))
    for node in model.graph.node:
        node.output[:] = ["before" if name == "probabilities" else name for name in node.output]
    swap = helper.make_node("Gather", ["before", "order"], ["probabilities"], axis=1)
    model.graph.node.append(swap)


@pytest.mark.parametrize("fault", [sharpened, relabelled])
def test_a_fault_behind_the_quantised_network_is_held_to_what_its_own_embedding_gives(
    quantised_bundle: Path,
    lesions: list[Path],
    tmp_path: Path,
    fault: Callable[[onnx.ModelProto], None],
) -> None:
    file = f"onnx/classify.{INT8}.onnx"
    bundle = altered(quantised_bundle, tmp_path / "bundle", file, edited(fault))
    report = verify(bundle, lesions[:4], names=["onnxruntime"])
    own = ("onnxruntime", INT8, "staged", "probabilities of its embedding")
    assert own in failing(report)
    told = f"tensors: onnxruntime {INT8} staged, stage classify: probabilities of its embedding"
    assert any(line.startswith(told) for line in report.failures())


def test_graders_wired_to_each_others_diagnosis_in_the_fused_int8_graph_are_caught(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    def swap(model: onnx.ModelProto) -> None:
        routes = {}

        def walk(graph: onnx.GraphProto) -> None:
            for tensor in graph.initializer:
                if tensor.name.endswith("/route"):
                    routes[tensor.name] = tensor
            for node in graph.node:
                for attribute in node.attribute:
                    if attribute.type == onnx.AttributeProto.GRAPH:
                        walk(attribute.g)

        walk(model.graph)
        values = [numpy_helper.to_array(tensor) for tensor in routes.values()]
        for (name, tensor), value in zip(routes.items(), values[1:] + values[:1], strict=True):
            tensor.CopyFrom(numpy_helper.from_array(value, name))

    file = f"onnx/pipeline.{INT8}.onnx"
    bundle = altered(quantised_bundle, tmp_path / "bundle", file, edited(swap))
    report = verify(bundle, lesions, names=["onnxruntime"])
    assert ("onnxruntime", INT8, "fused", "severity") in failing(report)
    assert {form for _, _, form, _ in failing(report)} == {"fused"}


def test_a_range_that_is_moved_is_caught_though_it_is_as_wide(
    quantised_bundle: Path, tmp_path: Path
) -> None:
    def move(model: onnx.ModelProto) -> None:
        zeros = [n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"][:4]
        for tensor in model.graph.initializer:
            if tensor.name in zeros:
                value = int(numpy_helper.to_array(tensor))
                moved = np.uint8(value + 26 if value < 200 else value - 26)
                tensor.CopyFrom(numpy_helper.from_array(np.array(moved), tensor.name))

    file = f"onnx/classify.{INT8}.onnx"
    bundle = altered(quantised_bundle, tmp_path / "bundle", file, edited(move))
    rows, _ = ranges.parity(bundle)
    (caught,) = (row for row in rows if not row.passed)
    assert caught.minimum_tolerance == pytest.approx(26 / 255, rel=0.05)


def test_a_scale_that_is_read_back_otherwise_than_it_was_rounded_is_caught(
    quantised_bundle: Path, tmp_path: Path
) -> None:
    def stretch(model: onnx.ModelProto) -> None:
        rounded = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        node = next(
            n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in rounded
        )
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        scale = np.float32(held[node.input[1]] * 1.1)
        model.graph.initializer.append(numpy_helper.from_array(scale, "another"))
        node.input[1] = "another"

    file = f"onnx/classify.{INT8}.onnx"
    bundle = altered(quantised_bundle, tmp_path / "bundle", file, edited(stretch))
    rows, _ = ranges.parity(bundle)
    (caught,) = (row for row in rows if not row.passed)
    assert np.isinf(caught.minimum_tolerance)


def test_a_grader_that_gives_no_number_does_not_pass_as_told(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if "head.output.bias" in tensor.name:
                values = np.full(tensor.dims, np.nan, np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    shutil.copytree(quantised_bundle, tmp_path / "sound")
    bundle = altered(tmp_path / "sound", tmp_path / "bundle", "onnx/grade_mel.onnx", edited(spoil))
    caught = failing(verify(bundle, lesions, names=["onnxruntime"]))
    assert ("onnxruntime", INT8, "staged", "severity_mel") in caught


def test_a_float_file_is_not_taken_for_a_quantised_one(quantised_bundle: Path) -> None:
    manifest = Bundle.open(quantised_bundle).manifest
    for change in ({"ranges": None}, {"path": "models/onnx/classify.onnx"}):
        models = [
            model.model_copy(update=change)
            if model.path == f"models/onnx/classify.{INT8}.onnx"
            else model
            for model in manifest.models
        ]
        data = manifest.model_copy(update={"models": tuple(models)}).to_bytes()
        with pytest.raises(BundleError, match=f"is listed as {INT8}, and is not quantised"):
            Manifest.from_bytes(data, "manifest.json")


def test_a_file_that_only_other_runtimes_were_seen_with_is_said_to_be_unseen(
    quantised_bundle: Path, lesions: list[Path]
) -> None:
    report = verify(Bundle.open(quantised_bundle), lesions[:1], names=["tensorflow"])
    assert report.passed
    said = f"litert beside pytorch {INT8}: not asked for: what quantising changes is not seen"
    assert said in report.caveats
    assert said in summary(report)
    assert said in junit(report)
    assert said in render(report, Bundle.open(quantised_bundle))


def test_a_range_that_fails_is_on_the_page(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    def widen(model: onnx.ModelProto) -> None:
        scale = next(n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear")
        for tensor in model.graph.initializer:
            if tensor.name == scale:
                wide = numpy_helper.to_array(tensor) * np.float32(1.1)
                tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))

    file = f"onnx/classify.{INT8}.onnx"
    bundle = altered(quantised_bundle, tmp_path / "bundle", file, edited(widen))
    report = verify(bundle, lesions[:1], names=["onnxruntime"])
    page = render(report, bundle)
    assert page.count("int8 ranges") >= 2, "in the list, and in the table of failures"
    assert "What quantising changes" in page


def test_another_bundles_int8_is_another_file(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    file = f"onnx/classify.{INT8}.onnx"
    other = altered(quantised_bundle, tmp_path / "bundle", file, edited(sharpened))
    sound = Bundle.open(quantised_bundle)
    report = verify(other, lesions[:2], against=sound, names=["onnxruntime"])
    rows = {(t.precision, t.form, t.tensor): t for t in report.tensors}
    assert rows[INT8, "staged", "probabilities"].tolerance is None
    assert rows[INT8, "staged", "probabilities"].minimum_tolerance > 0.0
    assert {d.reference for d in report.decisions} == {f"small {sound.sha256[:12]}"}


def test_a_model_that_quantising_spoils_does_not_hold() -> None:
    before = Answer(
        probabilities=(0.9, 0.1, 0, 0, 0, 0, 0), diagnosis=0, accepted=1, reasons=0, severity=0
    )
    near = before.model_copy(update={"probabilities": (0.8, 0.2, 0, 0, 0, 0, 0)})
    flipped = before.model_copy(update={"probabilities": (0.1, 0.9, 0, 0, 0, 0, 0)})

    def passed(*after: Answer) -> bool:
        return decisions(
            [("image", before, answer) for answer in after],
            Taxonomy(),
            ParityRecipe(),
            runtime="onnxruntime",
            precision=INT8,
            form="staged",
            reference="pytorch",
        ).passed

    assert passed(*[before] * 20)
    assert not passed(*[near] * 20), "no label flips, and each answer is another"
    assert not passed(*[before] * 80, *[flipped] * 20), "a fifth of the labels flips"


def test_a_litert_range_that_is_off_by_a_tenth_is_caught_in_the_signature_that_has_it(
    quantised_bundle: Path, tmp_path: Path
) -> None:
    def narrow(data: bytes) -> bytes:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for buffer in model.buffers:  # weights that stand behind the flatbuffer
            if buffer.offset > 1:
                part = data[buffer.offset : buffer.offset + buffer.size]
                buffer.data, buffer.offset, buffer.size = np.frombuffer(part, np.uint8), 0, 0
        (signature,) = (s for s in model.signatureDefs if s.signatureKey == b"pipeline")
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        own = [t for t in tensors if t.type == schema.TensorType.INT8 and b"_backbone/" in t.name]
        last = [t for t in own if len(t.quantization.scale) == 1][-1]
        last.quantization.scale = [float(last.quantization.scale[0]) * 0.9]
        builder = flatbuffers.Builder(len(data))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    bundle = altered(quantised_bundle, tmp_path / "bundle", f"litert/main.{INT8}.tflite", narrow)
    rows, unread = ranges.parity(bundle)
    assert not unread
    caught = [row for row in rows if not row.passed]
    assert [(row.runtime, row.form, row.stage) for row in caught] == [
        ("litert", "fused", "pipeline")
    ]
    assert 0.05 <= caught[0].minimum_tolerance <= 0.1 + 1e-6, "its longer end is off by a tenth"


def test_an_x86_core_without_vnni_is_said_to_saturate(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    runtime = runtimes.get("x86-avx2-onnxruntime")
    if runtime.version() is None:
        pytest.skip(f"{runtime.name} is not set up: {runtime.hint()}")

    def heavy(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4:
                signs = np.sign(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array((signs * 127).astype(np.int8), tensor.name))
        return model.SerializeToString()

    bundle = altered(quantised_bundle, tmp_path / "bundle", f"onnx/classify.{INT8}.onnx", heavy)
    report = verify(bundle, lesions[:2], names=[runtime.name])
    caught = failing(report)
    assert (runtime.name, INT8, "staged", "embedding") in caught
    assert not any(precision == "fp32" for _, precision, _, _ in caught)
    told = f"{runtime.name} {INT8}: this x86 core has no VNNI"
    assert report.failures()[-1].startswith(told)


def test_without_vnni_this_very_machine_is_said_to_saturate(
    quantised_bundle: Path, lesions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classkinfy_export.machine.vnni", lambda: False)
    report = verify(Bundle.open(quantised_bundle), lesions[:1], names=["onnxruntime"])
    assert [c.split(":")[0] for c in report.caveats] == [f"onnxruntime {INT8}"]
    assert report.passed
    assert report.failures() == [], "it is a note, until something differs"


def test_decisions_may_flip_in_one_of_two_hundred_images_and_only_by_a_hair() -> None:
    sure, unsure = (0.9, 0.1, 0, 0, 0, 0, 0), (0.505, 0.495, 0, 0, 0, 0, 0)
    flipped = (0.495, 0.505, 0, 0, 0, 0, 0)

    def of(probabilities: tuple[float, ...]) -> Answer:
        label = int(np.argmax(probabilities))
        return Answer(
            probabilities=probabilities, diagnosis=label, accepted=1, reasons=0, severity=0
        )

    def passed(flips: list[tuple[tuple[float, ...], tuple[float, ...]]], images: int) -> bool:
        same = [("image", of(sure), of(sure))] * (images - len(flips))
        pairs = [*same, *(("image", of(before), of(after)) for before, after in flips)]
        return decisions(
            pairs,
            Taxonomy(),
            ParityRecipe(),
            runtime="tensorflow",
            precision=INT8,
            form="staged",
            reference="litert",
            same_file=True,
        ).passed

    assert passed([], 20)
    assert passed([(unsure, flipped)], 200)
    assert not passed([(unsure, flipped)], 199)
    assert not passed([(sure, flipped)], 1000), "its margin is .8"
