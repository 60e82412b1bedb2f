"""Facts about int8 files: what is quantised in them, by which formula, and what is not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ExportError, ImageError, RecipeError
from classkinfy_export.frame import frame
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.quantization.photos import choose, others
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.taxonomy import Taxonomy

CONVOLUTIONS = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
INT8 = "static_wi8_ai8"
FLOAT_EXCITATION = "static_wi8_ai8_se_fp32"


def graph(folder: Path, name: str) -> onnx.GraphProto:
    return onnx.load(folder / "models" / "onnx" / f"{name}.onnx").graph


def arrays(found: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in found.initializer}


def test_only_networks_are_written_again(quantised_bundle: Path) -> None:
    manifest = Bundle.open(quantised_bundle).manifest
    for stage in ("prepare", "screen", "grade_mel"):
        paths = {manifest.find_model(stage, "onnx", p).path for p in ("fp32", INT8)}  # type: ignore[union-attr, arg-type]
        assert paths == {f"models/onnx/{stage}.onnx"}
    for stage in ("classify", "pipeline"):
        paths = {manifest.find_model(stage, "onnx", p).path for p in ("fp32", INT8)}  # type: ignore[union-attr, arg-type]
        assert paths == {f"models/onnx/{stage}.onnx", f"models/onnx/{stage}.{INT8}.onnx"}
    assert manifest.calibration is not None
    assert manifest.calibration.images == 8


def test_weights_are_rounded_to_127_steps_of_each_channels_largest(quantised_bundle: Path) -> None:
    floats = arrays(graph(quantised_bundle, "classify"))
    found = graph(quantised_bundle, f"classify.{INT8}")
    held = arrays(found)
    makers = {node.output[0]: node for node in found.node}
    convolutions = [node for node in found.node if node.op_type == "Conv"]
    assert convolutions
    furthest = 0.0
    for node in convolutions:
        dequantise = makers[node.input[1]]
        assert dequantise.op_type == "DequantizeLinear", "no convolution stayed float"
        codes, scale = held[dequantise.input[0]], held[dequantise.input[1]]
        assert codes.dtype == np.int8
        weights = floats[dequantise.input[0].removesuffix("_quantized")]
        largest = np.abs(weights).max(axis=(1, 2, 3))
        np.testing.assert_allclose(scale, largest / 127, rtol=1e-5)
        assert (np.abs(codes).max(axis=(1, 2, 3)) == 127).all()
        # Not each to the nearest, but near it: one makes good what another has lost.
        away = np.abs(codes - weights / scale[:, None, None, None])
        assert away.mean() < 1.0
        furthest = max(furthest, float(away.max()))
    assert furthest > 0.51


def test_the_resize_and_whatever_is_not_a_network_are_the_same_floats(
    quantised_bundle: Path,
) -> None:
    for name in ("classify", "pipeline"):
        before, after = (graph(quantised_bundle, n) for n in (name, f"{name}.{INT8}"))
        for kind in ("MatMul", "Softmax", "Gemm", "Floor"):
            counts = [sum(n.op_type == kind for n in g.node) for g in (before, after)]
            assert counts[0] == counts[1] > 0, kind
        kept = arrays(after)
        blocks = {n: v for n, v in arrays(before).items() if ".block_" in n}
        assert blocks
        assert all(kept[n].tobytes() == v.tobytes() for n, v in blocks.items())
        assert [(i.name, i.type) for i in before.input] == [(i.name, i.type) for i in after.input]
        assert [o.name for o in before.output] == [o.name for o in after.output]


def test_litert_convolutions_are_int8_and_inputs_and_outputs_are_as_they_were(
    quantised_bundle: Path,
) -> None:
    models = [
        schema.ModelT.InitFromPackedBuf(
            (quantised_bundle / "models" / "litert" / f"{name}.tflite").read_bytes(), 0
        )
        for name in ("main", f"main.{INT8}")
    ]
    for before, after in zip(*(m.signatureDefs for m in models), strict=True):
        assert before.signatureKey == after.signatureKey
        old, new = (
            m.subgraphs[d.subgraphIndex] for m, d in zip(models, (before, after), strict=True)
        )
        for listed in ("inputs", "outputs"):
            types = [[g.tensors[i].type for i in getattr(g, listed)] for g in (old, new)]
            assert types[0] == types[1], before.signatureKey
        if before.signatureKey in (b"classify", b"pipeline"):
            codes = [models[1].operatorCodes[o.opcodeIndex].builtinCode for o in new.operators]
            outputs = [
                new.tensors[o.outputs[0]].type
                for o, code in zip(new.operators, codes, strict=True)
                if code in CONVOLUTIONS and b"_backbone/" in new.tensors[o.outputs[0]].name
            ]
            assert set(outputs) == {schema.TensorType.INT8}


def test_both_formats_saw_the_same_ranges(quantised_bundle: Path) -> None:
    """But for gates, which LiteRT's kernels give in a range of their own."""
    folder = quantised_bundle / "models"
    onnx_ranges, litert_ranges = (
        json.loads((folder / path).read_text())
        for path in (f"onnx/classify.{INT8}.ranges.json", f"litert/main.{INT8}.ranges.json")
    )
    graph = onnx.load_model(folder / "onnx" / f"classify.{INT8}.onnx").graph
    gates = {node.output[0] for node in graph.node if node.op_type == "Sigmoid"}
    bounds = [b for name, b in litert_ranges.items() if name.startswith("classify/")]
    same = [
        any(np.allclose(b, other, rtol=1e-4, atol=1e-4) for other in bounds)
        for name, b in onnx_ranges.items()
        if name not in gates
    ]
    assert np.mean(same) > 0.9, "the formats fold different operators into one"
    assert bounds.count([0.0, 255 / 256]) == len(gates) > 0
    fused = {n.removeprefix("pipeline/") for n in litert_ranges if n.startswith("pipeline/")}
    assert len(fused) == len(bounds)


def test_calibration_without_photos_says_what_to_do(
    checkpoints: Callable[[str], Sources], small_recipe: ExportRecipe, tmp_path: Path
) -> None:
    recipe = small_recipe.model_copy(update={"precisions": ("fp32", INT8)})
    with pytest.raises(RecipeError, match="takes its ranges from photos") as caught:
        export.export(checkpoints("trunk"), recipe, tmp_path / "bundle")
    for way in ("--calibration", "data synthesise", "precisions at"):
        assert way in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_photos_that_no_precision_takes_are_refused(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(RecipeError, match=r"--set 'precisions=\[fp32, static_wi8_ai8\]'"):
        export.export(
            checkpoints("trunk"), small_recipe, tmp_path / "b", calibration=lesions[0].parent
        )


def test_graders_of_their_own_are_quantised_too(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    recipe = small_recipe.model_copy(
        update={
            "precisions": (INT8,),
            "calibration": CalibrationRecipe(images=2),
            "formats": ("pytorch", "onnx"),
            "golden": False,
        }
    )
    folder = lesions[0].parent
    export.export(checkpoints("separate"), recipe, tmp_path / "bundle", calibration=folder)
    names = {path.stem for path in (tmp_path / "bundle" / "models" / "onnx").glob("*.onnx")}
    assert names == {
        *("prepare", f"classify.{INT8}", f"pipeline.{INT8}"),
        *(f"grade_{dx}.{INT8}" for dx in ("akiec", "mel", "nv")),
    }


@pytest.fixture(scope="session")
def mixed_bundle(
    once: Callable[[str, Callable[[Path], object]], Path],
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
) -> Path:
    """Int8 but for squeeze-and-excite branches, and but for the stem and a block."""
    recipe = small_recipe.model_copy(
        update={
            "precisions": (INT8, FLOAT_EXCITATION),
            "float_blocks": {"classify": ("conv_stem", "blocks.3")},
            "calibration": CalibrationRecipe(images=8),
            "golden": False,
        }
    )
    sources = checkpoints("trunk")
    return once(
        "mixed_bundle",
        lambda out: export.export(sources, recipe, out, calibration=lesions[0].parent),
    )


AGAIN = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from conftest import _sources

from classkinfy_export import recipes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs import export
from classkinfy_export.recipes import ExportRecipe

bundle, photos, out = map(Path, sys.argv[2:])
told = Bundle.open(bundle).manifest.provenance.recipe
recipe = recipes.parse(told, ExportRecipe, "recipe", ("formats=[onnx]",))
export.export(_sources("trunk"), recipe, out, calibration=photos)
"""


def test_another_process_rounds_and_calibrates_to_the_same_bytes(
    quantised_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    tests = Path(__file__).parent.parent
    subprocess.run(
        [sys.executable, "-c", AGAIN, tests, quantised_bundle, lesions[0].parent, tmp_path / "b"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    for name in (f"classify.{INT8}.onnx", f"pipeline.{INT8}.onnx", f"classify.{INT8}.ranges.json"):
        one, two = (path / "models" / "onnx" / name for path in (quantised_bundle, tmp_path / "b"))
        assert one.read_bytes() == two.read_bytes(), name


MIXED = {INT8: {True: 6, False: 11}, FLOAT_EXCITATION: {True: 8, False: 9}}
"""Convolutions of ``mixed_bundle``'s network, by whether they are left in float."""


def left_in_float(name: str, precision: str) -> bool:
    """Whether a convolution is, by what formats name it after."""
    excitation = precision == FLOAT_EXCITATION and re.search(r"\.se\.|_se/", name)
    return bool(excitation or re.search(r"conv_stem|blocks\.3\.|_blocks/[^/]*_3/", name))


@pytest.mark.slow
@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("stage", ["classify", "pipeline"])
def test_what_is_left_in_float_in_onnx_keeps_weights_as_int8(
    mixed_bundle: Path, precision: str, stage: str
) -> None:
    found = graph(mixed_bundle, f"{stage}.{precision}")
    held = arrays(found)
    makers = {node.output[0]: node for node in found.node}
    seen = {True: 0, False: 0}
    for node in found.node:
        if node.op_type != "Conv":
            continue
        apart = left_in_float(node.input[1], precision)
        seen[apart] += 1
        weight = makers[node.input[1]]
        assert weight.op_type == ("Mul" if apart else "DequantizeLinear"), node.name
        assert apart or makers[node.input[0]].op_type == "DequantizeLinear", node.name
        codes = makers[weight.input[0]].input[0] if apart else weight.input[0]
        assert held[codes].dtype == np.int8
    assert seen == MIXED[precision]


@pytest.mark.slow
@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("stage", [b"classify", b"pipeline"])
def test_what_is_left_in_float_in_litert_keeps_weights_as_int8(
    mixed_bundle: Path, precision: str, stage: bytes
) -> None:
    path = mixed_bundle / "models" / "litert" / f"main.{precision}.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (signature,) = (s for s in model.signatureDefs if s.signatureKey == stage)
    found = model.subgraphs[signature.subgraphIndex]
    makers = {operator.outputs[0]: operator for operator in found.operators}
    seen = {True: 0, False: 0}
    for operator in found.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        output, weight = found.tensors[operator.outputs[0]], operator.inputs[1:2]
        if code not in CONVOLUTIONS or b"_backbone/" not in output.name:
            continue
        apart = left_in_float(output.name.decode(), precision)
        seen[apart] += 1
        kind = schema.TensorType.FLOAT32 if apart else schema.TensorType.INT8
        assert output.type == kind, output.name
        codes = makers[weight[0]].inputs[0] if apart else weight[0]
        assert found.tensors[codes].type == schema.TensorType.INT8
    assert seen == MIXED[precision]


@pytest.mark.slow
def test_a_float_gate_is_rounded_and_multiplied_in_int8(mixed_bundle: Path) -> None:
    found = graph(mixed_bundle, f"classify.{FLOAT_EXCITATION}")
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in found.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gates = {}
    for node in found.node:
        if node.op_type == "Conv" and node.input[1].endswith(".se.conv_expand.weight"):
            (sigmoid,) = readers[node.output[0]]
            (reader,) = readers[sigmoid.output[0]]
            block = re.search(r"blocks\.\d+", node.input[1])
            assert block is not None
            gates.setdefault(block[0], set()).add((sigmoid.op_type, reader.op_type))
    assert gates.pop("blocks.3") == {("Sigmoid", "Mul")}, "it is in a float block"
    assert gates
    assert all(kinds == {("Sigmoid", "QuantizeLinear")} for kinds in gates.values())
    path = mixed_bundle / "models" / "litert" / f"main.{FLOAT_EXCITATION}.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    for part in model.subgraphs:
        products = [
            part.tensors[operator.outputs[0]]
            for operator in part.operators
            if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.MUL
            and b"SqueezeExcite_se;" in part.tensors[operator.outputs[0]].name
        ]
        apart = {bool(re.search(rb"_blocks/[^/]*_3/", t.name)): t.type for t in products}
        assert apart in ({}, {True: schema.TensorType.FLOAT32, False: schema.TensorType.INT8})


@pytest.mark.slow
@pytest.mark.parametrize("precision", MIXED)
def test_the_manifest_and_the_card_list_what_stayed_float(
    mixed_bundle: Path, precision: str
) -> None:
    manifest = Bundle.open(mixed_bundle).manifest
    models = [m for m in manifest.models if m.precision == precision and m.floats is not None]
    assert [(m.format, *m.floats) for m in models if m.floats] == [
        ("onnx", "classify"),
        ("onnx", "pipeline"),
        ("litert", "classify", "pipeline"),
    ]
    named = [of for m in models for of in (m.floats or {}).items()]
    assert all(n.startswith("classify/") for entry, of in named if entry == "pipeline" for n in of)
    lists = [{name.removeprefix("classify/") for name in of} for _, of in named]
    assert all(found == lists[0] for found in lists), "both formats leave the same in float"
    assert len(lists[0]) == MIXED[precision][True]
    assert "conv_stem" in lists[0]
    others = [module for module in lists[0] if not module.startswith("blocks.3.")]
    assert any(".se." in module for module in others) == (precision == FLOAT_EXCITATION)
    card = (mixed_bundle / "MODEL_CARD.md").read_text()
    assert all(module in card for module in lists[0])


def test_a_lone_convolution_that_onnxruntime_would_make_int8_again_is_refused(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    recipe = small_recipe.model_copy(
        update={
            "precisions": (INT8,),
            "float_blocks": {"classify": ("blocks.1.0.conv_pwl",)},
            "calibration": CalibrationRecipe(images=2),
            "formats": ("onnx",),
            "golden": False,
        }
    )
    with pytest.raises(
        ExportError, match=r"blocks\.1\.0\.conv_pwl of stage classify int8 again"
    ) as e:
        export.export(checkpoints("trunk"), recipe, tmp_path / "b", calibration=lesions[0].parent)
    assert "name all of its block in float_blocks" in str(e.value)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_the_mean_embedding_of_the_calibration_photos_is_that_of_fp32(
    quantised_bundle: Path, lesions: list[Path], runtime: str
) -> None:
    bundle = Bundle.open(quantised_bundle)
    photos = choose(lesions[0].parent, CalibrationRecipe(images=8), bundle.manifest.taxonomy)
    assert len(photos.paths) == 8
    framed = [frame(path, bundle.manifest.capture, "crop") for path in photos.paths]
    floats, rounded = (
        np.stack([session.run(image)["embedding"][0] for image in framed])
        for p in ("fp32", INT8)
        for session in [Session(runtimes.get(runtime).open(bundle, precision=p))]  # type: ignore[arg-type]
    )
    noise = np.abs(rounded - floats).mean()
    assert noise > 0.0
    assert np.abs((rounded - floats).mean(axis=0)).mean() < 0.02 * noise


def test_a_network_that_litert_holds_twice_has_one_offset(quantised_bundle: Path) -> None:
    data = (quantised_bundle / "models" / "litert" / f"main.{INT8}.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    held = [
        np.asarray(model.buffers[tensor.buffer].data).tobytes()
        for found in model.subgraphs
        for tensor in found.tensors
        if tensor.name.endswith(b"Offset_offset;")
    ]
    assert len(held) == 2
    assert held[0] == held[1] != b"\0" * len(held[0])


def test_nothing_stayed_float_of_a_network_all_int8(quantised_bundle: Path) -> None:
    manifest = Bundle.open(quantised_bundle).manifest
    found = [m.floats for m in manifest.models if m.precision == INT8 and m.floats is not None]
    assert found == [{"classify": ()}, {"pipeline": ()}, {"classify": (), "pipeline": ()}]


def test_a_broken_photo_is_told_of_before_anything_is_converted(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = shutil.copytree(lesions[0].parent, tmp_path / "photos")
    settings, taxonomy = CalibrationRecipe(images=8), Taxonomy()
    broken = others(photos, choose(photos, settings, taxonomy), 8, taxonomy).paths[-1]
    broken.write_bytes(broken.read_bytes()[:200])
    update = {"precisions": ("fp32", INT8), "calibration": settings}
    monkeypatch.setattr(export, "prepare", lambda *_: pytest.fail("too late"))
    with pytest.raises(ImageError, match=broken.name):
        export.export(
            checkpoints("trunk"),
            small_recipe.model_copy(update=update),
            tmp_path / "bundle",
            calibration=photos,
        )


def _cross_entropy(wanted: np.ndarray, given: np.ndarray, temperature: float) -> float:
    tempered = given ** (1.0 / temperature)
    return float(
        -(wanted * np.log(tempered / tempered.sum(axis=1, keepdims=True))).sum(axis=1).mean()
    )


def test_decisions_of_quantised_files_are_told_in_the_manifest(
    quantised_bundle: Path, lesions: list[Path]
) -> None:
    bundle = Bundle.open(quantised_bundle)
    told = bundle.manifest.decisions
    assert told is not None
    settings, taxonomy = CalibrationRecipe(images=8), bundle.manifest.taxonomy
    chosen = choose(lesions[0].parent, settings, taxonomy)
    rest = others(lesions[0].parent, chosen, 8, taxonomy).paths
    assert told.images == len(rest) == 6
    digests = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in rest)
    assert told.sha256 == hashlib.sha256(digests).hexdigest()
    assert [(row.format, row.precision) for row in told.models] == [
        ("onnx", INT8),
        ("litert", INT8),
    ]
    for row in told.models:
        runtime = runtimes.get(runtimes.first(row.format))
        one, two = (
            [Session(runtime.open(bundle, precision=p)).predict(path) for path in rest]
            for p in ("fp32", row.precision)
        )
        pairs = list(zip(one, two, strict=True))
        same = [(a, b) for a, b in pairs if a.diagnosis == b.diagnosis]
        assert row.agreement == len(same) / len(pairs)
        change = [
            abs(a.probabilities[dx] - b.probabilities[dx])
            for a, b in pairs
            for dx in taxonomy.classes
        ]
        assert row.mean_change == pytest.approx(sum(change) / len(change), abs=1e-7)
        assert row.mean_change > 0.0
        wanted, given = (
            np.array([[of.probabilities[dx] for dx in taxonomy.classes] for of in answers])
            for answers in (one, two)
        )
        elsewhere = [_cross_entropy(wanted, given, t) for t in np.geomspace(0.25, 4.0, 401)]
        assert row.temperature is not None
        assert _cross_entropy(wanted, given, row.temperature) <= min(elsewhere) + 1e-9
        graded = [a.severity == b.severity for a, b in same if a.severity is not None]
        assert row.severities == (sum(graded) / len(graded) if graded else None)


@pytest.mark.slow
@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_network_left_in_float_in_part_stays_itself(
    trunk_bundle: Path, mixed_bundle: Path, lesions: list[Path], runtime: str, precision: str
) -> None:
    sessions = [
        Session(runtimes.get(runtime).open(Bundle.open(path), precision=p))  # type: ignore[arg-type]
        for path, p in ((trunk_bundle, "fp32"), (mixed_bundle, precision))
    ]
    shifts = []
    for path in lesions[8:]:
        one, two = (session.predict(path).probabilities for session in sessions)
        shifts.append(max(abs(one[dx] - two[dx]) for dx in one))
    assert 0.0 < float(np.mean(shifts)) < 0.05
