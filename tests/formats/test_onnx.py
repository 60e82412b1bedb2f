"""Facts about the ONNX files themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import everywhere
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Dtype, StageSpec, TensorSpec
from classkinfy_export.data import synthetic
from classkinfy_export.formats.onnx import graph
from classkinfy_export.frame import frame


def models(folder: Path) -> Iterator[tuple[str, onnx.ModelProto]]:
    for path in sorted((folder / "models" / "onnx").glob("*.onnx")):
        yield path.stem, onnx.load(path)


def test_files_are_what_old_mobile_runtimes_read(trunk_bundle: Path, separate_bundle: Path) -> None:
    for folder in (trunk_bundle, separate_bundle):
        for name, model in models(folder):
            assert model.ir_version == 9, name
            assert {i.domain: i.version for i in model.opset_import} == {"": 18}, name
            assert not any(t.external_data for t in model.graph.initializer), name
            onnx.checker.check_model(model, full_check=True)


def test_files_say_what_they_are(trunk_bundle: Path) -> None:
    for name, model in models(trunk_bundle):
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(metadata["labels"]) == [
            "akiec", "bcc", "bkl", "df", "mel", "nv", "vasc",
        ]  # fmt: skip
        assert "Not a medical device" in metadata["disclaimer"], name
        if name in ("classify", "pipeline"):
            assert json.loads(metadata["classify.network"])["input_size"] == 64
            assert "classify.weights_licence" in metadata


def test_files_hold_no_path_of_the_machine_that_made_them(trunk_bundle: Path) -> None:
    here = str(Path(__file__).resolve().parents[2]).encode()
    for path in (trunk_bundle / "models").rglob("*.*"):
        data = path.read_bytes()
        assert here not in data, path.name
        assert b"site-packages" not in data, path.name


def test_a_fused_graph_runs_one_grader_only(separate_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(separate_bundle)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    # Fusions rename nodes; the names tell which grader a node is of.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        bundle.read("models/onnx/pipeline.onnx"), options, providers=["CPUExecutionProvider"]
    )
    routed = set()
    for seed in range(8):
        image = frame(synthetic.lesion("nv", seed, hair=0.0).image, bundle.manifest.capture)
        names = [output.name for output in session.get_outputs()]
        tensors = dict(zip(names, session.run(names, {"image": image}), strict=True))
        index = int(tensors["diagnosis"][0])
        routed.add(f"grade_{bundle.manifest.taxonomy.classes[index]}" if index >= 0 else "")
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = {e["name"].split("/")[0] for e in events if e["name"].startswith("grade_")}
    convolved = {
        e["name"].split("/")[0]
        for e in events
        if e["name"].startswith("grade_") and e.get("args", {}).get("op_name") == "Conv"
    }
    available = {s.name for s in bundle.manifest.stages if s.diagnosis}
    assert ran, "the profile names no grader's node"
    assert convolved == routed & available


def test_weights_are_in_the_fused_file_once(separate_bundle: Path) -> None:
    sizes = {p.stem: p.stat().st_size for p in (separate_bundle / "models/onnx").glob("*.onnx")}
    fused = sizes.pop("pipeline")
    assert fused < 1.1 * sum(sizes.values())


@pytest.mark.parametrize("stage", ["prepare", "classify"])
def test_graphs_hold_static_shapes_only(trunk_bundle: Path, stage: str) -> None:
    model = onnx.load(trunk_bundle / "models" / "onnx" / f"{stage}.onnx")
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        assert all(d.dim_value > 0 and not d.dim_param for d in dims), value.name
    assert np.prod([d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]) > 1


class Constants(torch.nn.Module):
    """Constants of equal bytes: two that are one, and one of another type, shape and sign."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "second"):
            self.register_buffer(name, torch.arange(4.0))
        self.register_buffer("whole", torch.zeros(4, dtype=torch.int32))
        self.register_buffer("zero", torch.zeros(4))
        self.register_buffer("negative", -torch.zeros(4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "sum": (x + self.first) * self.second,
            "whole": x.to(torch.int32) + self.whole,
            "sign": torch.cat((1.0 / (x * self.zero), 1.0 / (x * self.negative)), dim=1),
        }


def test_equal_constants_are_stored_once_and_others_apart() -> None:
    def tensor(name: str, dtype: Dtype, width: int = 4) -> TensorSpec:
        return TensorSpec(name=name, dtype=dtype, shape=(1, width), unit="")

    spec = StageSpec(
        name="constants",
        kind="screen",
        inputs=(tensor("x", "float32"),),
        outputs=(tensor("sum", "float32"), tensor("whole", "int32"), tensor("sign", "float32", 8)),
    )
    stored = graph.export(Constants(), spec, opset=18).graph.initializer
    values = [onnx.numpy_helper.to_array(t) for t in stored]
    assert sum(np.array_equal(v, np.arange(4.0)) for v in values) == 1
    x = np.array([[1, 2, 3, 4]], np.float32)
    runs = everywhere.export(Constants(), spec)
    for output, wanted in runs["pytorch"](x).items():
        np.testing.assert_array_equal(runs["onnxruntime"](x)[output], wanted, err_msg=output)
