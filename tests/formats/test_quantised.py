"""Facts about int8 files: what is quantised in them, by which formula, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper
from PIL import Image

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import NetworkSpec
from classkinfy_export.errors import RecipeError
from classkinfy_export.jobs import export
from classkinfy_export.jobs.export import Sources
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages.checkpoint import Checkpoint, weights_sha256
from classkinfy_export.stages.network import Network

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
    kinds = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
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
                if code in kinds and b"_backbone/" in new.tensors[o.outputs[0]].name
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


@pytest.fixture(scope="module")
def excited(
    once: Callable[[str, Callable[[Path], object]], Path],
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
) -> Path:
    """A bundle of a network with swish and squeeze-and-excite, and no graders."""
    torch.manual_seed(0)
    classes = checkpoints("separate").classifier.info.taxonomy.classes
    spec = NetworkSpec(architecture="efficientnet_b0", input_size=64, outputs=len(classes))
    network = Network(spec).train()
    photos = [torch.from_numpy(np.array(Image.open(p).resize((64, 64)))) for p in lesions]
    with torch.no_grad():
        for _ in range(30):  # batch norm's statistics
            network(torch.stack(photos).permute(0, 3, 1, 2).float())
    info = checkpoints("separate").classifier.info.model_copy(update={"network": spec})
    network.eval().requires_grad_(False)
    classifier = Checkpoint(info, network, weights_sha256(network))
    recipe = small_recipe.model_copy(
        update={
            "precisions": ("fp32", FLOAT_EXCITATION),
            "calibration": CalibrationRecipe(images=8),
            "forms": ("staged",),
            "golden": False,
        }
    )
    return once(
        "excited_bundle",
        lambda out: export.export(
            Sources(classifier, {}), recipe, out, calibration=lesions[0].parent
        ),
    )


@pytest.mark.slow
def test_excitation_is_float_in_onnx_and_its_weights_are_int8(excited: Path) -> None:
    found = graph(excited, f"classify.{FLOAT_EXCITATION}")
    held = arrays(found)
    makers = {node.output[0]: node for node in found.node}
    branches = 0
    for node in found.node:
        if node.op_type != "Conv":
            continue
        excitation = ".se." in node.input[1]
        branches += excitation
        kinds = [makers[name].op_type for name in node.input[:2]]
        assert kinds[1] == ("Mul" if excitation else "DequantizeLinear"), node.name
        assert (kinds[0] == "DequantizeLinear") != excitation, node.name
        if excitation:  # codes times a scale, in float
            codes = makers[makers[node.input[1]].input[0]].input[0]
            assert held[codes].dtype == np.int8
    assert branches == 32


@pytest.mark.slow
def test_excitation_is_float_in_litert_and_the_rest_int8(excited: Path) -> None:
    path = excited / "models" / "litert" / f"main.{FLOAT_EXCITATION}.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (classify,) = (s for s in model.signatureDefs if s.signatureKey == b"classify")
    found = model.subgraphs[classify.subgraphIndex]
    seen = {True: 0, False: 0}
    for operator in found.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        output = found.tensors[operator.outputs[0]]
        if code == schema.BuiltinOperator.CONV_2D and b"_backbone/" in output.name:
            excitation = b"_se/" in output.name
            seen[excitation] += 1
            kind = schema.TensorType.FLOAT32 if excitation else schema.TensorType.INT8
            assert output.type == kind, output.name
    assert seen == {True: 32, False: 33}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_network_with_excitation_stays_itself(
    excited: Path, lesions: list[Path], runtime: str
) -> None:
    bundle = Bundle.open(excited)
    shifts = []
    for path in lesions[8:]:
        answers = [
            Session(runtimes.get(runtime).open(bundle, precision=p)).predict(path).probabilities
            for p in ("fp32", FLOAT_EXCITATION)
        ]
        shifts.append(max(abs(a - b) for a, b in zip(*(a.values() for a in answers), strict=True)))
    assert 0.0 < float(np.mean(shifts)) < 0.05
