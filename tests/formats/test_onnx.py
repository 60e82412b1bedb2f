"""Facts about the ONNX files themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
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
