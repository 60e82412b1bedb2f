"""Facts about weights that are kept as halves or int8: by which formula, and computed in float."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ExportError, RecipeError
from classkinfy_export.formats.litert import weights as litert_weights
from classkinfy_export.formats.onnx import weights as onnx_weights
from classkinfy_export.frame import frame
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.precision import Precision
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import assemble
from classkinfy_export.stages.classify import Classify

INT8: Precision = "weight_only_wi8_afp32"
LIGHT: tuple[Precision, ...] = ("fp16", INT8)
NETWORKS = ("classify", "grade_akiec", "grade_mel", "grade_nv")

Array = np.ndarray[Any, Any]


def rounded(weight: Array, precision: Precision, axis: int) -> Array:
    """What a weight is after it was kept: the oracle."""
    if precision == "fp16":
        return weight.astype(np.float16).astype(np.float32)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(axis=others, keepdims=True) / 127).astype(np.float32)
    scale[scale == 0.0] = 1.0
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.float32) * scale


def onnx_graph(folder: Path, name: str) -> onnx.GraphProto:
    return onnx.load(folder / "models" / "onnx" / f"{name}.onnx").graph


def arrays(graph: onnx.GraphProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def trained(graph: onnx.GraphProto) -> dict[str, Array]:
    """The weights of a float stage but the resize's, by name."""
    held = arrays(graph)
    read = [n.input[1] for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    return {n: held[n] for n in read if n in held and ".resize." not in n}


@pytest.mark.parametrize("stage", NETWORKS)
def test_onnx_halves_are_numpys(light_bundle: Path, stage: str) -> None:
    before, after = (onnx_graph(light_bundle, name) for name in (stage, f"{stage}.fp16"))
    held = arrays(after)
    casts = {n.output[0]: held[n.input[0]] for n in after.node if n.input[0].endswith("_half")}
    weights = trained(before)
    assert casts.keys() == weights.keys() != set()
    for name, weight in weights.items():
        assert casts[name].dtype == np.float16
        np.testing.assert_array_equal(casts[name], weight.astype(np.float16))
    assert held.keys() & weights.keys() == set(), "no weight is there twice"


@pytest.mark.parametrize("stage", NETWORKS)
def test_onnx_codes_are_within_half_a_scale(light_bundle: Path, stage: str) -> None:
    before, after = (onnx_graph(light_bundle, name) for name in (stage, f"{stage}.{INT8}"))
    held = arrays(after)
    kept = {
        n.output[0]: (held[n.input[0].removesuffix("_whole") + "_code"], held[n.input[1]])
        for n in after.node
        if n.op_type == "Mul" and n.input[0].endswith("_whole")
    }
    weights = trained(before)
    assert kept.keys() == weights.keys() != set()
    for name, weight in weights.items():
        codes, scale = kept[name]
        assert codes.dtype == np.int8
        assert codes.min() >= -127, "symmetric"
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        np.testing.assert_allclose(scale.ravel(), largest / 127, rtol=1e-6)
        assert (np.abs(codes).reshape(len(weight), -1).max(axis=1) == 127).all(), "outputs' axis"
        error = np.abs(codes * scale - weight)
        assert (error <= scale / 2 * (1 + 1e-5)).all(), name
    assert held.keys() & weights.keys() == set(), "no weight is there twice"


@pytest.mark.parametrize("precision", LIGHT)
def test_onnx_keeps_whatever_is_not_a_network_as_it_was(
    light_bundle: Path, precision: Precision
) -> None:
    manifest = Bundle.open(light_bundle).manifest
    for stage in ("prepare", "screen"):
        model = manifest.find_model(stage, "onnx", precision)
        assert model is not None
        assert model.path == f"models/onnx/{stage}.onnx"
    before, after = (onnx_graph(light_bundle, n) for n in ("pipeline", f"pipeline.{precision}"))
    held = arrays(after)
    floats = {n: v for n, v in arrays(before).items() if n not in trained(before)}
    assert any(".resize." in name for name in floats)
    assert all(held[name].tobytes() == value.tobytes() for name, value in floats.items())
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    assert {m.ranges for m in manifest.models} == {None}
    assert manifest.calibration is None


def optimised(path: Path, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs of a file, those of branches included."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: Counter[str] = Counter()
    graphs = [onnx.load(folder / "optimised.onnx").graph]
    for graph in graphs:
        found.update(node.op_type for node in graph.node)
        for node in graph.node:
            graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found


@pytest.mark.parametrize("stage", ["classify", "pipeline"])
@pytest.mark.parametrize("precision", LIGHT)
def test_onnx_runtime_brings_weights_back_when_it_loads_them(
    light_bundle: Path, tmp_path: Path, stage: str, precision: Precision
) -> None:
    models = light_bundle / "models" / "onnx"
    before = optimised(models / f"{stage}.onnx", tmp_path)
    assert optimised(models / f"{stage}.{precision}.onnx", tmp_path) == before


def test_graders_of_their_own_are_brought_back_inside_their_branches(
    checkpoints: Callable[[str], Sources], small_recipe: ExportRecipe, tmp_path: Path
) -> None:
    recipe = small_recipe.model_copy(
        update={"precisions": ("fp32", INT8), "formats": ("pytorch", "onnx"), "golden": False}
    )
    export.export(checkpoints("separate"), recipe, tmp_path / "bundle")
    models = tmp_path / "bundle" / "models" / "onnx"
    for stage in ("grade_mel", "pipeline"):
        path = models / f"{stage}.{INT8}.onnx"
        before = optimised(models / f"{stage}.onnx", tmp_path)
        assert optimised(path, tmp_path) == before
        assert path.stat().st_size < (models / f"{stage}.onnx").stat().st_size


class Flat:
    """A LiteRT file, its weights beside it or in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.model = schema.ModelT.InitFromPackedBuf(data, 0)
        for buffer in self.model.buffers:
            if buffer.offset > 1:
                part = data[buffer.offset : buffer.offset + buffer.size]
                buffer.data, buffer.offset, buffer.size = np.frombuffer(part, np.uint8), 0, 0

    @classmethod
    def of(cls, folder: Path, name: str) -> Flat:
        return cls((folder / "models" / "litert" / f"{name}.tflite").read_bytes())

    def kind(self, operator: Any) -> int:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode)

    def graphs(self) -> Iterator[tuple[str, Any]]:
        for signature in self.model.signatureDefs:
            yield signature.signatureKey.decode(), self.model.subgraphs[signature.subgraphIndex]

    def values(self, tensor: Any, dtype: type) -> Array:
        data = bytes(self.model.buffers[tensor.buffer].data)
        return np.frombuffer(data, dtype).reshape(tensor.shape)

    def alone(self, signature: str) -> bytes:
        """The same file with one signature, which an interpreter then takes for its main graph."""
        model = schema.ModelT.InitFromPackedBuf(self.data, 0)
        model.buffers = self.model.buffers
        (own,) = (s for s in model.signatureDefs if s.signatureKey.decode() == signature)
        model.subgraphs = [model.subgraphs[own.subgraphIndex]]
        own.subgraphIndex, model.signatureDefs = 0, [own]
        builder = flatbuffers.Builder(len(self.data))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


OPERATORS = schema.BuiltinOperator
WEIGHTED = (OPERATORS.CONV_2D, OPERATORS.DEPTHWISE_CONV_2D, OPERATORS.FULLY_CONNECTED)


def litert_pairs(before: Flat, after: Flat) -> Iterator[tuple[str, Any, Any, Any]]:
    """Each weight of a convolution or product, before and after: signature, tensor, operator that
    reads the other, tensor of what is stored of it."""
    for (signature, old), (_, new) in zip(before.graphs(), after.graphs(), strict=True):
        makers = {int(o.outputs[0]): o for o in new.operators}
        readers = [o for o in new.operators if after.kind(o) in WEIGHTED]
        written = [o for o in old.operators if before.kind(o) in WEIGHTED]
        for operator, reader in zip(written, readers, strict=True):
            weight = old.tensors[operator.inputs[1]]
            if before.model.buffers[weight.buffer].data is None:
                continue
            made = makers.get(int(reader.inputs[1]))
            stored = new.tensors[reader.inputs[1] if made is None else made.inputs[0]]
            if made is not None:
                assert after.kind(made) == OPERATORS.DEQUANTIZE
            yield signature, weight, reader, stored


@pytest.mark.parametrize("precision", LIGHT)
def test_litert_weights_are_numpys(light_bundle: Path, precision: Precision) -> None:
    before, after = Flat.of(light_bundle, "main"), Flat.of(light_bundle, f"main.{precision}")
    counts: Counter[str] = Counter()
    for signature, weight, reader, stored in litert_pairs(before, after):
        values = before.values(weight, np.float32)
        name = weight.name.decode()
        if not any(part in name for part in ("_backbone/", "_head/", "_head;")):
            assert stored.type == schema.TensorType.FLOAT32, name
            np.testing.assert_array_equal(after.values(stored, np.float32), values)
            continue
        counts[signature] += 1
        if precision == "fp16":
            assert stored.type == schema.TensorType.FLOAT16, name
            np.testing.assert_array_equal(
                after.values(stored, np.float16), values.astype(np.float16)
            )
            continue
        assert stored.type == schema.TensorType.INT8, name
        axis = 3 if after.kind(reader) == OPERATORS.DEPTHWISE_CONV_2D else 0
        assert stored.quantization.quantizedDimension == axis
        assert not np.any(stored.quantization.zeroPoint), "symmetric"
        codes = after.values(stored, np.int8)
        assert codes.min() >= -127
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        scale = np.asarray(stored.quantization.scale, np.float32).reshape(shape)
        others = tuple(i for i in range(values.ndim) if i != axis)
        np.testing.assert_allclose(
            scale, np.abs(values).max(axis=others, keepdims=True) / 127, rtol=1e-6
        )
        assert (np.abs(codes * scale - values) <= scale / 2 * (1 + 1e-5)).all(), name
    heads = {stage: counts.pop(stage) for stage in NETWORKS[1:]}
    assert set(heads.values()) == {3}, "components, hidden and output"
    assert counts.pop("pipeline") == counts["classify"] + sum(heads.values())
    assert counts.pop("classify") > 10
    assert not counts, "no stage else"


@pytest.mark.parametrize("precision", LIGHT)
def test_xnnpack_takes_each_weight_that_is_brought_back(
    light_bundle: Path, precision: Precision
) -> None:
    flats = [Flat.of(light_bundle, name) for name in ("main", f"main.{precision}")]
    for signature in NETWORKS:
        taken = []
        for flat in flats:
            graph = dict(flat.graphs())[signature]
            interpreter = Interpreter(model_content=flat.alone(signature), num_threads=1)
            interpreter.allocate_tensors()
            inner = interpreter._interpreter
            nodes = range(len(graph.operators), inner.NumNodes())
            assert {inner.NodeName(node) for node in nodes} == {"DELEGATE"}
            given = {int(i) for node in nodes for i in inner.NodeOutputs(node)}
            read = {int(i) for node in nodes for i in inner.NodeInputs(node)}
            back = {
                int(o.outputs[0]) for o in graph.operators if flat.kind(o) == OPERATORS.DEQUANTIZE
            }
            assert back & read <= given, "none is brought back outside the delegate"
            taken.append((len(nodes), bool(back)))
        assert taken[0][0] == taken[1][0], "the delegate takes as much at once as of fp32"
        assert [back for _, back in taken] == [False, True]


@pytest.mark.parametrize("precision", LIGHT)
@pytest.mark.parametrize("name", ["grade_mel", "main"])
def test_litert_graders_of_their_own_are_kept_lighter_too(
    separate_bundle: Path, precision: Precision, name: str
) -> None:
    before = (separate_bundle / "models" / "litert" / f"{name}.tflite").read_bytes()
    after = litert_weights.keep(before, precision)
    kind = schema.TensorType.FLOAT16 if precision == "fp16" else schema.TensorType.INT8
    kinds = [
        stored.type
        for _, weight, _, stored in litert_pairs(Flat(before), Flat(after))
        if any(part in weight.name for part in (b"_backbone/", b"_head/"))
    ]
    assert len(kinds) > 10
    assert set(kinds) == {kind}


def folded(folder: Path, precision: Precision, classify: Classify) -> Classify:
    """The PyTorch module with the float file's folded weights, rounded by NumPy."""
    held = arrays(onnx_graph(folder, "classify"))
    modules = dict(classify.named_modules())
    norms = [m for m in modules.values() if isinstance(m, torch.nn.BatchNorm2d)]
    convolutions = [n for n, m in modules.items() if isinstance(m, torch.nn.Conv2d)]
    order = [n for n, m in modules.items() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.Conv2d)]
    for norm in norms:
        for value, start in ((norm.running_mean, 0.0), (norm.weight, 1.0), (norm.running_var, 1.0)):
            assert value is not None
            value.data.fill_(start)
        norm.bias.data.zero_()
        norm.eps = 0.0
    for name in (*convolutions, "network.head.0"):
        module: Any = modules[name]
        weight = held[f"module.{name}.weight"]
        module.weight.data = torch.from_numpy(rounded(weight, precision, 0).copy())
        follower = order.index(name) + 1 if name in order else len(order)
        norm = modules[order[follower]] if follower < len(order) else None
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.bias.data = torch.from_numpy(held[f"module.{name}.weight_bias"].copy())
    return classify


@pytest.mark.parametrize("precision", LIGHT)
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "litert-reference"])
def test_runtimes_give_what_pytorch_gives_with_weights_that_numpy_rounded(
    light_bundle: Path,
    lesions: list[Path],
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    precision: Precision,
    runtime: str,
) -> None:
    sources = checkpoints("trunk")
    assembly = assemble(
        sources.classifier,
        sources.graders,
        screen=sources.screen,
        capture=small_recipe.capture,
        hair_removal=True,
        rules=(),
    )
    module = assembly.modules["classify"]
    assert isinstance(module, Classify)
    module = folded(light_bundle, precision, module)
    bundle = Bundle.open(light_bundle)
    with runtimes.get(runtime).open(bundle, precision=precision) as engine:
        for path in lesions[:4]:
            image = frame(path, small_recipe.capture, small_recipe.fit)
            clean = engine.run("prepare", {"image": image})
            tensors = {**clean, **engine.run("screen", clean)}
            given = engine.run("classify", tensors)
            with torch.inference_mode():
                wanted = module(*(torch.from_numpy(tensors[n]) for n in ("clean", "preliminary")))
            for name in ("probabilities", "embedding"):
                np.testing.assert_allclose(given[name], wanted[name].numpy(), rtol=0, atol=1e-5)


def test_a_weight_beyond_float16_is_named_and_what_to_do(light_bundle: Path) -> None:
    model = onnx.load(light_bundle / "models" / "onnx" / "classify.onnx")
    (weight,) = (t for t in model.graph.initializer if t.name.endswith("head.0.weight"))
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] = 70_000.0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(
        ExportError, match=r"head\.0\.weight holds 70000, .* ends at 65504"
    ) as caught:
        onnx_weights.keep(model, "fp16")
    assert INT8 in caught.value.hint
    onnx_weights.keep(model, INT8)

    flat = Flat.of(light_bundle, "main")
    named = (t for t in dict(flat.graphs())["classify"].tensors if b"Sequential_head/" in t.name)
    tensor = next(t for t in named if t.shape is not None and t.shape[0] == 7 and len(t.shape) == 2)
    large = flat.values(tensor, np.float32).copy()
    large[0, 0] = 70_000.0
    flat.model.buffers[tensor.buffer].data = np.frombuffer(large.tobytes(), np.uint8)
    with pytest.raises(ExportError, match=r"Sequential_head/.* holds 70000"):
        litert_weights.keep(flat.alone("classify"), "fp16")


def test_a_file_without_a_network_cannot_be_kept_lighter(light_bundle: Path) -> None:
    model = onnx.load(light_bundle / "models" / "onnx" / "prepare.onnx")
    with pytest.raises(ExportError, match="stage prepare has no weights to keep as fp16"):
        onnx_weights.keep(model, "fp16")
    with pytest.raises(ExportError, match="no weights to keep as fp16"):
        litert_weights.keep(Flat.of(light_bundle, "main").alone("prepare"), "fp16")


def test_halves_take_no_photos(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    recipe = small_recipe.model_copy(update={"precisions": ("fp32", "fp16")})
    folder = lesions[0].parent
    with pytest.raises(RecipeError, match="no precision of the recipe takes any"):
        export.export(checkpoints("trunk"), recipe, tmp_path / "bundle", calibration=folder)


KEEP = """
import hashlib, pathlib, sys
import onnx
from classkinfy_export.formats.litert import weights as litert
from classkinfy_export.formats.onnx import weights
models, precision = pathlib.Path(sys.argv[1]), sys.argv[2]
model = weights.keep(onnx.load(models / "onnx" / "classify.onnx"), precision)
data = litert.keep((models / "litert" / "main.tflite").read_bytes(), precision)
for kept in (model.SerializeToString(deterministic=True), data):
    print(hashlib.sha256(kept).hexdigest())
"""


def test_another_process_writes_the_same_bytes(light_bundle: Path) -> None:
    models = light_bundle / "models"
    again = subprocess.run(
        [sys.executable, "-c", KEEP, str(models), INT8],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    model = onnx_weights.keep(onnx.load(models / "onnx" / "classify.onnx"), INT8)
    data = litert_weights.keep((models / "litert" / "main.tflite").read_bytes(), INT8)
    wanted = [model.SerializeToString(deterministic=True), data]
    assert again.stdout.split() == [hashlib.sha256(kept).hexdigest() for kept in wanted]
