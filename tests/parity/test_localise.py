"""A planted fault is located to its operator, and shown by what is written without this package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, NetworkSpec
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity import graphs
from classkinfy_export.parity import localise as module
from classkinfy_export.parity.localise import Localisation, localise
from classkinfy_export.precision import Precision
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.base import Engine
from classkinfy_export.runtimes.onnxruntime import OnnxRuntime
from classkinfy_export.stages.checkpoint import Checkpoint, CheckpointInfo, weights_sha256
from classkinfy_export.stages.network import Network
from classkinfy_export.taxonomy import Taxonomy

RUNTIMES = {"onnx": "onnxruntime", "litert": "litert"}
FILES = {"onnx": "models/onnx/classify.onnx", "litert": "models/litert/main.tflite"}
KINDS = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

Once = Callable[[str, Callable[[Path], object]], Path]
Weights = np.ndarray[Any, np.dtype[np.float32]]
Change = Callable[[Weights], Weights]


@pytest.fixture(scope="session")
def deep_bundle(once: Once) -> Path:
    """An untrained classifier of 52 convolutions, staged, in every format."""

    def make(out: Path) -> None:
        torch.manual_seed(0)
        network = Network(
            NetworkSpec(architecture="mobilenetv2_035", input_size=64, outputs=7)
        ).eval()
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(part.weight, 0.8, 1.6)
                torch.nn.init.normal_(part.bias, 0.0, 0.3)
        info = CheckpointInfo(role="classifier", network=network.spec, taxonomy=Taxonomy())
        sources = Sources(Checkpoint(info, network, weights_sha256(network)), {}, None)
        recipe = ExportRecipe(name="deep", capture=Capture(height=96, width=128), forms=("staged",))
        export.export(sources, recipe, out)

    return once("deep_bundle", make)


def scaled(weights: Weights) -> Weights:
    return weights * np.float32(1.05)


def swapped(weights: Weights) -> Weights:
    """Swap the first two channels of the longest axis: of what comes out, or of what goes in."""
    axis = int(np.argmax(weights.shape))
    order = np.arange(weights.shape[axis])
    order[:2] = 1, 0
    return weights.take(order, axis)


def onnx_fault(path: Path, number: int, change: Change) -> str:
    """Change the weights of a convolution, and return the operator as it should be named."""
    model = onnx.load(path)
    nodes = [(i, node) for i, node in enumerate(model.graph.node) if node.op_type == "Conv"]
    index, node = nodes[number]
    (tensor,) = (t for t in model.graph.initializer if t.name == node.input[1])
    values = change(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path.write_bytes(model.SerializeToString())
    return f"Conv {index}"


def litert_fault(path: Path, number: int, change: Change) -> str:
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (entry,) = (s for s in model.signatureDefs if s.signatureKey == b"classify")
    graph = model.subgraphs[entry.subgraphIndex]
    kinds = [KINDS[model.operatorCodes[op.opcodeIndex].builtinCode] for op in graph.operators]
    index = [i for i, kind in enumerate(kinds) if kind.endswith("CONV_2D")][number]
    tensor = graph.tensors[graph.operators[index].inputs[1]]
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
    buffer = schema.BufferT()  # one of its own: converters store equal weights once
    buffer.data = np.frombuffer(change(values.reshape(tensor.shape)).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    builder = flatbuffers.Builder(2**20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return f"{kinds[index]} {index}"


FAULTS = {"onnx": onnx_fault, "litert": litert_fault}


def altered(source: Path, target: Path, change: Callable[[Path], None]) -> Bundle:
    """Copy a bundle, change its files, and pin the result: a bad export, not a bad copy."""
    shutil.copytree(source, target)
    change(target)
    manifest = Bundle.open(source).manifest
    writer.seal(target, manifest.model_copy(update={"files": writer.pin(target)}))
    return Bundle.open(target)


def altered_onnx(
    source: Path, target: Path, stage: str, change: Callable[[onnx.ModelProto], None]
) -> Bundle:
    def write(folder: Path) -> None:
        path = folder / "models" / "onnx" / f"{stage}.onnx"
        model = onnx.load(path)
        change(model)
        path.write_bytes(model.SerializeToString())

    return altered(source, target, write)


ALONE = """
import importlib.abc, pathlib, runpy, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"classkinfy_export", "torch", "onnx", "pydantic", "tensorflow"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def reproduces(folder: Path) -> tuple[int, str]:
    """Run what was written in a fresh process that has only numpy and the runtime."""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, folder / "reproduce.py"],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout


def written(found: Localisation, folder: Path) -> Path:
    assert found.reproducer is not None
    found.reproducer.write(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "change"), [(2, swapped), (39, scaled), (-1, swapped)], ids=["3rd", "40th", "last"]
)
@pytest.mark.parametrize("format", RUNTIMES)
def test_a_fault_in_a_convolution_is_located_to_it_and_shown_by_itself(
    format: str, number: int, change: Change, deep_bundle: Path, tmp_path: Path
) -> None:
    planted: list[str] = []
    bundle = altered(
        deep_bundle,
        tmp_path / "bundle",
        lambda folder: planted.append(FAULTS[format](folder / FILES[format], number, change)),
    )
    found = localise(bundle, runtime=RUNTIMES[format])
    assert found.stage == "classify"
    assert not found.holds
    fault = found.fault
    assert fault is not None
    assert [fault.operator] == planted
    assert (fault.operators, fault.whole_stage, fault.alone) == (1, False, True)
    assert "convolution" in fault.reference_operators
    first = next(row for row in found.rows if not row.same)
    assert first.tensor == fault.tensor

    folder = written(found, tmp_path / "shown")
    code, text = reproduces(folder)
    assert code == 1
    assert f"{RUNTIMES[format]} {fault.tensor}: SQNR {fault.sqnr_db:.1f} dB" in text
    assert text.rstrip().endswith("differs")
    # The same part of the sound file, on the same inputs, is right: it is not the script that errs.
    sound = Bundle.open(deep_bundle)
    model = next(m for m in sound.manifest.models if m.path == FILES[format])
    part = graphs.read(sound, model, "classify").cut(fault.inputs, [fault.tensor])
    assert found.reproducer is not None
    (folder / found.reproducer.model_name).write_bytes(part)
    code, text = reproduces(folder)
    assert code == 0
    assert text.rstrip().endswith("holds")


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "litert-reference"])
def test_a_sound_bundle_has_no_fault(runtime: str, trunk_bundle: Path) -> None:
    found = localise(Bundle.open(trunk_bundle), runtime=runtime)
    assert found.holds
    assert (found.stage, found.rows, found.reproducer) == (None, (), None)
    assert found.images > 1, "all golden vectors were looked at"


def test_an_operator_too_many_is_named_and_should_be_its_own_input(
    trunk_bundle: Path, tmp_path: Path
) -> None:
    def swap(model: onnx.ModelProto) -> None:
        order = np.array([2, 1, 0], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(order, "bgr"))
        for node in model.graph.node:
            node.input[:] = ["swapped" if name == "image" else name for name in node.input]
        model.graph.node.insert(
            0, helper.make_node("Gather", ["image", "bgr"], ["swapped"], axis=3)
        )

    bundle = altered_onnx(trunk_bundle, tmp_path / "bundle", "prepare", swap)
    found = localise(bundle, runtime="onnxruntime")
    assert found.stage == "prepare"
    assert found.fault is not None
    assert (found.fault.operator, found.fault.reference) == ("Gather 0", "image")
    assert found.fault.reference_operators == ()
    assert reproduces(written(found, tmp_path / "shown"))[0] == 1


def test_a_stale_temperature_is_located_before_the_softmax(
    trunk_bundle: Path, tmp_path: Path
) -> None:
    def sharpen(model: onnx.ModelProto) -> None:
        (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "stale"))
        position = list(model.graph.node).index(softmax)
        scaled = helper.make_node("Mul", [softmax.input[0], "stale"], ["scaled"])
        softmax.input[0] = "scaled"
        model.graph.node.insert(position, scaled)

    bundle = altered_onnx(trunk_bundle, tmp_path / "bundle", "classify", sharpen)
    found = localise(bundle, runtime="onnxruntime")
    assert found.fault is not None
    assert (found.stage, found.fault.tensor) == ("classify", "scaled")
    assert found.fault.alone


def test_a_lost_activation_is_told_by_what_pytorch_computes_there(
    deep_bundle: Path, tmp_path: Path
) -> None:
    def unclip(model: onnx.ModelProto) -> None:
        clip = [node for node in model.graph.node if node.op_type == "Clip"][4]
        for node in model.graph.node:
            node.input[:] = [clip.input[0] if n == clip.output[0] else n for n in node.input]
        model.graph.node.remove(clip)

    bundle = altered_onnx(deep_bundle, tmp_path / "bundle", "classify", unclip)
    fault = localise(bundle, runtime="onnxruntime").fault
    assert fault is not None
    assert fault.operator.startswith("Conv ")
    assert fault.reference_operators == ("hardtanh", "convolution", "batch_norm")


def test_a_fault_below_80_db_is_located_to_the_operator_too(
    deep_bundle: Path, tmp_path: Path
) -> None:
    def nudged(weights: Weights) -> Weights:
        return weights * np.float32(1.00003)

    planted: list[str] = []
    bundle = altered(
        deep_bundle,
        tmp_path / "bundle",
        lambda folder: planted.append(litert_fault(folder / FILES["litert"], 20, nudged)),
    )
    found = localise(bundle, runtime="litert", stage="classify", tolerance=1e-7)
    assert found.fault is not None
    assert [found.fault.operator] == planted
    assert found.fault.sqnr_db is not None
    assert found.fault.sqnr_db > 80.0


def test_of_two_faults_the_first_is_named_and_the_other_told_of(
    deep_bundle: Path, tmp_path: Path
) -> None:
    planted: list[str] = []

    def both(folder: Path) -> None:
        planted.extend(litert_fault(folder / FILES["litert"], n, swapped) for n in (30, 7))

    bundle = altered(deep_bundle, tmp_path / "bundle", both)
    fault = localise(bundle, runtime="litert").fault
    assert fault is not None
    assert fault.operator == planted[1]
    assert not fault.alone


class Fusing(OnnxRuntime):
    """A runtime that errs where it fuses a convolution with the clip after it, and only there."""

    weights = ""

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        (model,) = (m for m in bundle.manifest.models if self.of_interest(m.path))
        graph = onnx.load_from_string(bundle.read(model.path))
        read = {name for node in graph.graph.node for name in node.input}
        asked = {value.name for value in graph.graph.output}
        for node in graph.graph.node:
            fused = node.output[0] in read - asked
            if node.op_type == "Conv" and node.input[1] == self.weights and fused:
                (tensor,) = (t for t in graph.graph.initializer if t.name == self.weights)
                values = scaled(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return super()._open(holding(bundle, model.path, graph), precision, threads)

    def of_interest(self, path: str) -> bool:
        return path.endswith(("classify.onnx", "part.onnx"))


def holding(bundle: Bundle, path: str, model: onnx.ModelProto) -> Bundle:
    """Return a bundle with another model in it, unchecked."""
    data = model.SerializeToString()

    class Changed(Bundle):
        def read(self, name: str) -> bytes:
            return data if name == path else bundle.read(name)

    return Changed(bundle.path, bundle._storage, bundle.manifest, bundle.sha256)


def test_a_fault_of_fusion_is_narrowed_to_the_operators_that_are_fused(
    deep_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(deep_bundle)
    nodes = onnx.load_from_string(bundle.read(FILES["onnx"])).graph.node
    clips = {node.input[0]: i for i, node in enumerate(nodes) if node.op_type == "Clip"}
    fused = [node for node in nodes if node.op_type == "Conv" and node.output[0] in clips][9]
    monkeypatch.setattr(Fusing, "weights", fused.input[1])
    monkeypatch.setattr(module.runtimes, "get", lambda name: Fusing())
    fault = localise(bundle, runtime="onnxruntime").fault
    assert fault is not None
    assert fault.operator == f"Clip {clips[fused.output[0]]}"
    assert (fault.operators, fault.whole_stage) == (2, False)
    assert fault.inputs == (fused.input[0],)


def test_a_stage_that_is_asked_for_is_told_of_though_it_holds(trunk_bundle: Path) -> None:
    found = localise(Bundle.open(trunk_bundle), runtime="litert", stage="screen")
    assert found.holds
    assert found.stage == "screen"
    assert set(found.outputs) == {"preliminary", "lesion_mask", "features"}


def test_what_cannot_be_localised_is_refused(trunk_bundle: Path) -> None:
    bundle = Bundle.open(trunk_bundle)
    with pytest.raises(BundleError, match="pytorch is the reference"):
        localise(bundle, runtime="pytorch")
    with pytest.raises(BundleError, match="no stage 'classifier'"):
        localise(bundle, runtime="litert", stage="classifier")
    for runtime in ("web-litert", "x86-avx2-onnxruntime"):
        with pytest.raises(BundleError, match=f"show a fault of runtime {runtime}: localise in"):
            localise(bundle, runtime=runtime)


def test_a_reproducer_is_not_written_over_another(deep_bundle: Path, tmp_path: Path) -> None:
    bundle = altered(
        deep_bundle,
        tmp_path / "bundle",
        lambda folder: onnx_fault(folder / FILES["onnx"], 2, scaled) and None,
    )
    found = localise(bundle, runtime="onnxruntime")
    folder = written(found, tmp_path / "shown")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("expected.npz", "inputs.npz", "model.onnx", "reproduce.py")
    ]
    with pytest.raises(ClasskinfyError, match="already exists"):
        written(found, folder)
