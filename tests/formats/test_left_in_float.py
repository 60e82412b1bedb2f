"""What is left in float beside int8: which operators, how their weights are kept, who is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from embedding import Embedding, spec
from model_files import CONVOLUTIONS, arrays, graph

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import NetworkSpec
from classkinfy_export.errors import ExportError
from classkinfy_export.formats.onnx import graph as onnx_graph
from classkinfy_export.formats.onnx import quantize as onnx_static
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.folding import fold, input_range
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe, FloatBlocks
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages.network import Network

INT8 = "static_wi8_ai8"
FLOAT_EXCITATION = "static_wi8_ai8_se_fp32"
MIXED = {INT8: {True: 6, False: 11}, FLOAT_EXCITATION: {True: 8, False: 9}}
"""Convolutions of ``mixed_bundle``'s network in ONNX, by whether they are left in float."""


@pytest.fixture(scope="session")
def mixed_bundle(
    once: Callable[[str, Callable[[Path], object]], Path],
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
) -> Path:
    """Int8 but for squeeze-and-excite branches and a block, and in ONNX the stem."""
    recipe = small_recipe.model_copy(
        update={
            "precisions": (INT8, FLOAT_EXCITATION),
            "float_blocks": {
                "classify": FloatBlocks(onnx=("conv_stem", "blocks.3"), litert=("blocks.3",))
            },
            "calibration": CalibrationRecipe(images=8),
            "golden": False,
        }
    )
    sources = checkpoints("trunk")
    return once(
        "mixed_bundle",
        lambda out: export.export(sources, recipe, out, calibration=lesions[0].parent),
    )


def left_in_float(name: str, precision: str) -> bool:
    """Whether a convolution is, by what formats name it after."""
    excitation = precision == FLOAT_EXCITATION and re.search(r"\.se\.|_se/", name)
    return bool(excitation or re.search(r"conv_stem\.|blocks\.3\.|_blocks/[^/]*_3/", name))


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
    assert seen == {True: MIXED[precision][True] - 1, False: MIXED[precision][False] + 1}


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
def test_onnxruntime_takes_the_mean_of_a_branch_on_integers(
    mixed_bundle: Path, precision: str, tmp_path: Path
) -> None:
    path = mixed_bundle / "models" / "onnx" / f"classify.{precision}.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_it_runs.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "as_it_runs.onnx").graph.node
    means = sum(node.op_type == "QLinearGlobalAveragePool" for node in nodes)
    branches = [
        node.input[1]
        for node in graph(mixed_bundle, f"classify.{precision}").node
        if node.op_type == "Conv" and ".se.conv_reduce." in node.input[1]
    ]
    assert means == sum("blocks.3." not in name for name in branches) > 0


@pytest.mark.slow
@pytest.mark.parametrize("precision", MIXED)
def test_litert_brings_no_map_to_float_for_its_mean_or_its_edge(
    mixed_bundle: Path, precision: str
) -> None:
    path = mixed_bundle / "models" / "litert" / f"main.{precision}.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    seen = {schema.BuiltinOperator.MEAN: 0, schema.BuiltinOperator.PAD: 0}
    for part in model.subgraphs:
        for operator in part.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            given, taken = (part.tensors[i[0]] for i in (operator.inputs, operator.outputs))
            inside = re.search(rb"_blocks/[^/]*_\d/.*(_se;|Conv2d)", taken.name)
            if code in seen and inside and not re.search(rb"_blocks/[^/]*_3/", taken.name):
                seen[code] += 1
                assert given.type == taken.type == schema.TensorType.INT8, taken.name
    assert all(seen.values())


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
    assert len(lists[0]) == MIXED[precision][True]
    assert "conv_stem" in lists[0]
    alike = lists[0] - {"conv_stem"}
    assert lists == [lists[0], lists[0], alike, alike], "ONNX alone leaves the stem in float"
    others = [module for module in lists[0] if not module.startswith("blocks.3.")]
    assert any(".se." in module for module in others) == (precision == FLOAT_EXCITATION)
    card = (mixed_bundle / "MODEL_CARD.md").read_text()
    assert all(module in card for module in lists[0])


def test_attention_that_does_not_squeeze_and_excite_stays_float_with_its_mean() -> None:
    torch.manual_seed(0)
    settings = NetworkSpec(architecture="ecaresnet26t", input_size=64, outputs=7)
    other = fold(Network(settings).eval())
    photo = {"levels": np.full((1, 3, 64, 64), 99.0, np.float32)}
    model = onnx_graph.export(Embedding(other), spec(other), 18)
    seen = onnx_static.observe(model, Feeds([photo]))
    coded, _ = onnx_static.quantize(model, seen, input_range(other), float_excitation=True)
    left = onnx_static.floats(coded)
    assert left
    assert all(".se." in module for module in left)
    assert "GlobalAveragePool" not in {node.op_type for node in coded.graph.node}


def test_a_lone_convolution_that_onnxruntime_would_make_int8_again_is_refused(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    recipe = small_recipe.model_copy(
        update={
            "precisions": (INT8,),
            "float_blocks": {"classify": FloatBlocks(onnx=("blocks.1.0.conv_pwl",))},
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
