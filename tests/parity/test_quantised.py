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
from onnx import numpy_helper

from classkinfy_export import runtimes
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.parity import ranges
from classkinfy_export.parity.decide import Answer, decisions
from classkinfy_export.parity.verify import ParityReport, verify
from classkinfy_export.recipes import ParityRecipe
from classkinfy_export.taxonomy import Taxonomy

INT8 = "static_wi8_ai8"


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
    beside = {(d.runtime, d.precision): d.reference for d in report.decisions}
    assert beside == {
        **{(name, "fp32"): "pytorch" for name in names},
        **{(name, INT8): "pytorch" for name in ("onnxruntime", "litert", "litert-reference")},
        ("tensorflow", INT8): "litert",
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
    assert caught[0].minimum_tolerance == pytest.approx(0.1, rel=1e-3)
    told = f"tensors: onnxruntime {INT8} staged, stage classify: int8 ranges differs by 0.1"
    assert any(line.startswith(told) for line in report.failures())


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
    assert caught[0].minimum_tolerance == pytest.approx(0.1, rel=1e-3)


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
    assert report.failures()[-1].startswith(f"{runtime.name} {INT8}: this x86 core has no VNNI")


def test_without_vnni_this_very_machine_is_said_to_saturate(
    quantised_bundle: Path, lesions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classkinfy_export.machine.vnni", lambda: False)
    report = verify(Bundle.open(quantised_bundle), lesions[:1], names=["onnxruntime"])
    assert [c.split(":")[0] for c in report.caveats] == [f"onnxruntime {INT8}"]
    assert report.passed
    assert report.failures() == [], "it is a note, until something differs"


def test_labels_may_flip_in_one_of_two_hundred_images_and_only_by_a_hair() -> None:
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
