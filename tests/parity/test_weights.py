"""Files of lighter weights, which compute in float: as fp32 among runtimes, near to PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from altered import altered
from onnx import numpy_helper

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.parity import ranges
from classkinfy_export.parity.decide import Answer, decisions
from classkinfy_export.parity.report import ParityReport
from classkinfy_export.parity.verify import verify
from classkinfy_export.precision import Precision
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe, QuantisedParity

INT8: Precision = "weight_only_wi8_afp32"
LIGHT: tuple[Precision, ...] = ("fp16", INT8)
RUNTIMES = ("onnxruntime", "litert", "litert-reference", "tensorflow")


def failing(report: ParityReport) -> set[tuple[str, str, str, str]]:
    return {(t.runtime, t.precision, t.form, t.tensor) for t in report.tensors if not t.passed}


def test_each_runtime_is_held_as_in_fp32_to_the_first_that_runs_the_same_file(
    light_bundle: Path, lesions: list[Path]
) -> None:
    bundle = Bundle.open(light_bundle)
    report = verify(bundle, lesions, names=RUNTIMES)
    assert report.failures() == []
    beside = {(d.runtime, d.precision, d.form): d.reference for d in report.decisions}
    firsts = {"onnxruntime": "onnxruntime", "tensorflow": "litert", "litert-reference": "litert"}
    for precision in LIGHT:
        for name in RUNTIMES:
            first = firsts.get(name, name)
            staged = "pytorch" if first == name else first
            assert beside[name, precision, "staged"] == staged
            fused = f"{name} staged" if first == name else first
            assert beside[name, precision, "fused"] == fused
    assert report.caveats == (), "nothing rounds otherwise, for nothing rounds"
    rows = {(t.runtime, t.precision, t.form, t.tensor): t for t in report.tensors}
    recipe = ParityRecipe()
    for precision in LIGHT:
        for runtime in ("onnxruntime", "litert"):
            for tensor in ("clean", "quality", "lesion_mask"):
                assert rows[runtime, precision, "staged", tensor].tolerance == 0.0
            assert rows[runtime, precision, "staged", "embedding"].tolerance is None
            row = rows[runtime, precision, "fused", "probabilities"]
            assert row.tolerance == recipe.tolerance(runtime, "probabilities") == 1e-5
            assert row.step is None
        for runtime in ("litert-reference", "tensorflow"):
            for tensor in ("embedding", "probabilities", "severity_mel"):
                row = rows[runtime, precision, "staged", tensor]
                assert row.tolerance == recipe.tolerance(runtime, tensor) > 0.0
    moved = [rows["onnxruntime", p, "staged", "embedding"].minimum_tolerance for p in LIGHT]
    assert 0.0 < moved[0] < moved[1], "int8 weights move it further than halves"


def test_a_fused_graph_with_another_scale_is_caught_as_in_fp32(
    light_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    def widen(model: onnx.ModelProto) -> None:
        (scale,) = (t for t in model.graph.initializer if t.name.endswith("head.0.weight_scale"))
        wide = numpy_helper.to_array(scale) * np.float32(1.001)
        scale.CopyFrom(numpy_helper.from_array(wide, scale.name))

    bundle = altered(light_bundle, tmp_path / "bundle", f"pipeline.{INT8}", widen)
    report = verify(bundle, lesions[:4], names=["onnxruntime"])
    assert failing(report) >= {("onnxruntime", INT8, "fused", "probabilities")}
    assert {(p, form) for _, p, form, _ in failing(report)} == {(INT8, "fused")}


def test_halves_of_another_network_are_caught_beside_pytorch(
    light_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    def stale(model: onnx.ModelProto) -> None:
        (head,) = (t for t in model.graph.initializer if t.name.endswith("head.0.weight_half"))
        other = numpy_helper.to_array(head) * np.float16(1.1)
        head.CopyFrom(numpy_helper.from_array(other, head.name))

    bundle = altered(light_bundle, tmp_path / "bundle", "classify.fp16", stale)
    report = verify(bundle, lesions[:4], names=["onnxruntime"])
    failed = {(d.precision, d.form) for d in report.decisions if not d.passed}
    assert ("fp16", "staged") in failed
    assert not {precision for precision, _ in failed} - {"fp16"}


def test_a_float_file_is_not_taken_for_one_of_lighter_weights(light_bundle: Path) -> None:
    manifest = Bundle.open(light_bundle).manifest
    for stage in ("classify", "grade_mel"):
        models = [
            model.model_copy(update={"path": f"models/onnx/{stage}.onnx"})
            if model.path == f"models/onnx/{stage}.fp16.onnx"
            else model
            for model in manifest.models
        ]
        data = manifest.model_copy(update={"models": tuple(models)}).to_bytes()
        with pytest.raises(BundleError, match="is listed as fp16, and is not quantised"):
            Manifest.from_bytes(data, "manifest.json")


def test_lighter_weights_have_no_ranges(light_bundle: Path) -> None:
    assert ranges.parity(Bundle.open(light_bundle)) == ([], {})


@pytest.mark.parametrize("precision", LIGHT)
def test_what_rounds_nothing_is_not_said_to_saturate_or_to_round_twice(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classkinfy_export.machine.vnni", lambda: False)
    for name in ("onnxruntime", "x86-avx2-onnxruntime", "litert-reference"):
        assert runtimes.get(name).caveat(precision) is None
        assert runtimes.get(name).caveat("static_wi8_ai8") is not None


def passed(
    precision: Precision, flips: int, images: int, *, shift: float = 0.0, same_file: bool = False
) -> bool:
    sure, unsure = (0.9, 0.1, 0, 0, 0, 0, 0), (0.501, 0.499, 0, 0, 0, 0, 0)
    flipped = (0.499, 0.501, 0, 0, 0, 0, 0)

    def of(probabilities: tuple[float, ...]) -> Answer:
        label = int(np.argmax(probabilities))
        return Answer(
            probabilities=probabilities, diagnosis=label, accepted=1, reasons=0, severity=0
        )

    moved = of((0.9 - shift, 0.1 + shift, 0, 0, 0, 0, 0))
    pairs = [("image", of(sure), moved)] * (images - flips)
    pairs += [("image", of(unsure), of(flipped))] * flips
    return decisions(
        pairs,
        Taxonomy(),
        ParityRecipe(),
        runtime="tensorflow" if same_file else "litert",
        precision=precision,
        form="staged",
        reference="litert" if same_file else "pytorch",
        same_file=same_file,
    ).passed


def test_beside_pytorch_each_precision_has_a_share_of_its_own() -> None:
    assert passed("fp16", 1, 500)
    assert not passed("fp16", 1, 499), "99.8 % are to agree"
    assert passed(INT8, 1, 100)
    assert not passed(INT8, 1, 99), "99 % are to agree"
    assert passed("static_wi8_ai8", 1, 20)


def test_beside_pytorch_answers_may_move_by_little() -> None:
    allowed = QuantisedParity()
    for precision, most in (
        ("fp16", allowed.fp16_mean_shift),
        (INT8, allowed.weight_only_mean_shift),
    ):
        assert passed(precision, 0, 50, shift=most * 0.99)
        assert not passed(precision, 0, 50, shift=most * 1.01)
    assert allowed.fp16_mean_shift < allowed.weight_only_mean_shift < allowed.mean_shift


@pytest.mark.parametrize("precision", LIGHT)
def test_of_one_file_not_one_decision_may_flip(precision: Precision) -> None:
    assert passed(precision, 0, 50, same_file=True)
    assert not passed(precision, 1, 50, same_file=True)
    assert not passed(precision, 1, 5000, same_file=True), "as in fp32, whatever the share"
