"""Work of a stage: what a formula, PyTorch's counter and the other format say it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.alone import alone
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.errors import BundleError
from classkinfy_export.formats.litert import conversion
from classkinfy_export.formats.onnx import graph
from classkinfy_export.latency.estimate.work import Work, count

SIDE = 16


class Small(nn.Module):
    """One convolution of each kind, a reshape and a product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.pointwise = nn.Conv2d(8, 24, 1)
        self.head = nn.Linear(24 * 8 * 8, 7)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        convolved = self.pointwise(self.depthwise(self.stem(image).relu()))
        return {"logits": self.head(convolved.flatten(1))}


# Of 8x8 answers each: 8 of 3x3x3, 8 of 5x5 and 24 of 8; then 7 of 24x8x8.
MACS = {
    "convolution": 64 * 8 * 27,
    "pointwise": 64 * 24 * 8,
    "depthwise": 64 * 8 * 25,
    "matrix": 7 * 24 * 64,
}


@pytest.fixture(scope="module")
def spec() -> StageSpec:
    image = TensorSpec(name="image", dtype="float32", shape=(1, 3, SIDE, SIDE), unit="")
    logits = TensorSpec(name="logits", dtype="float32", shape=(1, 7), unit="")
    return StageSpec(name="classify", kind="classify", inputs=(image,), outputs=(logits,))


@pytest.fixture(scope="module")
def litert(spec: StageSpec) -> Work:
    flat = conversion.convert(Small().eval(), spec)
    return count(alone(flat, spec, "litert"), "classify")


@pytest.fixture(scope="module")
def onnx(spec: StageSpec) -> Work:
    model = graph.export(Small().eval(), spec, 18).SerializeToString()
    return count(alone(model, spec, "onnx"), "classify")


def test_multiplications_are_those_of_the_formula(litert: Work, onnx: Work) -> None:
    assert litert.macs_by_kind() == MACS
    assert onnx.macs_by_kind() == MACS


def test_operators_on_integers_multiply_as_often(spec: StageSpec, tmp_path: Path) -> None:
    # What ONNX Runtime's dynamic quantisation writes: ConvInteger and MatMulInteger.
    floats, coded = tmp_path / "floats.onnx", tmp_path / "coded.onnx"
    floats.write_bytes(graph.export(Small().eval(), spec, 18).SerializeToString())
    quantize_dynamic(floats, coded, weight_type=QuantType.QUInt8)
    work = count(alone(coded.read_bytes(), spec, "onnx"), "classify")
    assert {o.name for o in work.operators if o.macs} == {"ConvInteger", "MatMulInteger"}
    assert {o.number for o in work.operators if o.macs} == {"int8"}
    assert work.macs_by_kind() == MACS


def test_multiplications_are_those_that_pytorch_counts(litert: Work) -> None:
    with FlopCounterMode(display=False) as counter:
        Small()(torch.zeros(1, 3, SIDE, SIDE))
    assert 2 * litert.macs == counter.get_total_flops()


def test_an_operator_moves_its_weights_what_it_reads_and_what_it_writes(
    litert: Work, onnx: Work
) -> None:
    for work in (litert, onnx):
        (pointwise,) = (o for o in work.operators if o.kind == "pointwise")
        floats = (8 * 24 + 24) + 8 * 64 + 24 * 64
        assert pointwise.moved_bytes == 4 * floats
        assert pointwise.elements == 24 * 64


def test_a_reshape_and_the_edge_of_a_convolution_cost_nothing(litert: Work) -> None:
    assert not {"RESHAPE", "PAD"} & {operator.name for operator in litert.operators}


def test_both_formats_of_a_bundle_ask_the_same_of_a_core(
    trunk_bundle: Path, tmp_path: Path
) -> None:
    flat = Bundle.open(trunk_bundle)
    other = Bundle.open(_without(trunk_bundle, tmp_path / "onnx", "litert"))
    for stage in ("classify", "grade_mel"):
        ours, theirs = count(flat, stage), count(other, stage)
        assert (ours.format, theirs.format) == ("litert", "onnx")
        assert ours.macs_by_kind() == theirs.macs_by_kind()
        assert ours.moved_bytes == pytest.approx(theirs.moved_bytes, rel=0.3)
    # Other operators do the same in each format: shapes are alike, not their number.
    prepare = [count(of, "prepare").moved_bytes for of in (flat, other)]
    assert prepare[0] == pytest.approx(prepare[1], rel=0.5)


def test_quantising_keeps_the_multiplications_and_moves_less(quantised_bundle: Path) -> None:
    bundle = Bundle.open(quantised_bundle)
    floats, coded = count(bundle, "classify"), count(bundle, "classify", "static_wi8_ai8")
    assert coded.macs == floats.macs
    assert coded.moved_bytes < floats.moved_bytes
    kinds = {(o.kind, o.number) for o in coded.operators if o.macs}
    assert ("pointwise", "int8") in kinds
    assert ("pointwise", "fp32") not in kinds
    assert {o.number for o in floats.operators} == {"fp32"}


def test_a_precision_that_is_not_there_is_refused(trunk_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no LiteRT or ONNX file of classify in fp16: it holds"):
        count(Bundle.open(trunk_bundle), "classify", "fp16")
    with pytest.raises(BundleError, match="no stage 'triage'"):
        count(Bundle.open(trunk_bundle), "triage")


def _without(bundle: Path, out: Path, form: str) -> Path:
    """Copy a bundle, its files of one format left out."""
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    models = tuple(model for model in manifest.models if model.format != form)
    gone = {model.path for model in manifest.models if model.format == form}
    files = {path: entry for path, entry in manifest.files.items() if path not in gone}
    shutil.copytree(bundle, out)
    for path in gone:
        (out / path).unlink()
    writer.seal(out, manifest.model_copy(update={"models": models, "files": files}))
    return out
