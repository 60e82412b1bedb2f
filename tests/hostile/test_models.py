"""Model files and weights made to hurt who opens them."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from readers import pinned
from tiny_bundle import make_bundle

from classkinfy_export.bundle.alone import alone
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.contract import StageSpec, TensorSpec
from classkinfy_export.errors import BundleError, CheckpointError, ClasskinfyError
from classkinfy_export.latency.estimate import work
from classkinfy_export.parity import golden, graphs, ranges
from classkinfy_export.runtimes.onnxruntime import OnnxRuntime, open_session
from classkinfy_export.stages import checkpoint, origin
from classkinfy_export.taxonomy import Taxonomy

VALUES = TensorSpec(name="x", dtype="float32", shape=(256,), unit="")
SUM = StageSpec(
    name="sum",
    kind="screen",
    inputs=(VALUES,),
    outputs=(VALUES.model_copy(update={"name": "y"}),),
)


def advised(error: pytest.ExceptionInfo[Any]) -> None:
    assert isinstance(error.value, ClasskinfyError)
    assert error.value.hint
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 4000


# ONNX


def adding(location: str | None) -> bytes:
    """An ONNX file that adds what is in another file, or in itself."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [256], np.zeros(256, np.float32))
    if location is not None:
        weights.ClearField("float_data")
        weights.data_location = TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", location
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "location",  # a name alone is none
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [256])],
        [weights],
    )
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, ir_version=9, opset_imports=opset).SerializeToString())


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/passwd"])
def test_weights_in_another_file_are_not_read(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    for folder in (tmp_path, tmp_path / "here"):
        np.arange(256, dtype=np.float32).tofile(folder / "secret.bin")
    monkeypatch.chdir(tmp_path / "here")
    engine = OnnxRuntime().open(alone(adding(location), SUM, "onnx"))
    with pytest.raises(
        BundleError, match="has weights in another file, which nothing pins"
    ) as told:
        engine.run("sum", {"x": np.zeros(256, np.float32)})
    advised(told)


def test_padding_does_not_hide_where_weights_are() -> None:
    plain = adding("secret.bin")
    assert plain.count(b"\n\x08location") == 1
    with pytest.raises(BundleError, match="in another file"):
        open_session(plain.replace(b"\n\x08location", b"\x8a\x80\x00\x88\x80\x00location"), 1)


def test_a_file_that_only_says_location_is_opened() -> None:
    data = adding(None)
    assert b"location" in data
    assert open_session(data, 1).get_outputs()[0].name == "y"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_bundle(tmp_path / "bundle").manifest


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\xff" * 100, adding(None)[:-40], b"text"])
@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_a_damaged_model_file_is_one_clear_error(
    data: bytes, form: Any, manifest: Manifest
) -> None:
    model = manifest.models[0].model_copy(update={"path": "m", "format": form})
    bundle = pinned(manifest.model_copy(update={"models": (model,)}), {"m": data})
    for read in (
        lambda: work.count(bundle, "prepare"),
        lambda: graphs.read(bundle, model, "prepare"),
    ):
        with pytest.raises(BundleError, match="m is damaged") as told:
            read()
        advised(told)


@pytest.mark.parametrize("pad", [2**62, 2**40, -(2**40)])
def test_a_pad_that_shape_inference_would_not_survive_is_refused(
    pad: int, manifest: Manifest
) -> None:
    pads = helper.make_tensor("pads", TensorProto.INT64, [2], [0, pad])
    graph = helper.make_graph(
        [helper.make_node("Pad", ["x", "pads"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [pads],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    model = manifest.models[0].model_copy(update={"path": "m"})
    with pytest.raises(BundleError, match=f"it has a size of {pad}") as told:
        graphs.read(pinned(manifest, {"m": data}), model, "prepare")
    advised(told)


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, json.dumps({"a": [0, 10**400]}), '{"a": [0, Infinity]}', '{"a": [1, 0]}', "[]"],
)
def test_ranges_that_are_none_are_refused(content: str, manifest: Manifest) -> None:
    model = manifest.models[0].model_copy(update={"ranges": "r"})
    with pytest.raises(BundleError, match=r"r is damaged|r holds no ranges") as told:
        ranges.calibrated(pinned(manifest, {"r": content.encode()}), model)
    advised(told)


# Golden vectors


Change = Callable[[dict[str, bytes], dict[str, Any]], None]


def _tensor(**entry: object) -> Change:
    return lambda files, case: case["tensors"].update(accepted=entry)


def _bomb(files: dict[str, bytes], case: dict[str, Any]) -> None:
    files["golden/a.gz"] = gzip.compress(bytes(2**26))


def _postscript(files: dict[str, bytes], case: dict[str, Any]) -> None:
    files["golden/a.png"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_bomb, "not the one that was recorded"),
        (_postscript, "not an image"),
        (lambda files, case: files.update({"golden/a.gz": b"\x1f\x8b"}), "ended before"),
        (lambda files, case: case.update(shape=[2**30, 2**30]), "not of the capture's shape"),
        (lambda files, case: case.update(tensors=[]), "tensors"),
        (lambda files, case: case.update(image=3), "image"),
        (_tensor(dtype="S2000000000", shape=[1], values=[1]), "dtype"),
        (_tensor(dtype="O", shape=[1], values=[1]), "dtype"),
        (_tensor(dtype="int32", shape=[10**30], values=[1]), "shape"),
        (_tensor(dtype="int32", shape=[3], values=[1]), "reshape"),
        (_tensor(dtype="int32", shape=[1], values=[10**30]), "too large|out of bounds"),
        (_tensor(dtype="int32", shape=[1], values=["one"]), "values"),
    ],
)
def test_golden_vectors_that_are_none_are_refused(
    change: Change, reason: str, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "made", golden_names=("a",))
    assert golden.read(made)[0].expected["accepted"] == 1
    files = {name: made.read(name) for name in made.manifest.files}
    index = json.loads(files[golden.INDEX])
    change(files, index["cases"][0])
    files[golden.INDEX] = json.dumps(index).encode()
    start = time.process_time()
    with pytest.raises(BundleError, match=f"golden vectors are damaged.*{reason}") as told:
        golden.read(pinned(made.manifest, files))
    assert time.process_time() - start < 3
    advised(told)


# Checkpoints


def saved(info: dict[str, Any], state: dict[str, torch.Tensor]) -> bytes:
    header = f"{'0' * 64}\n{json.dumps(info)}"
    return bytes(safetensors.torch.save(state, metadata={"classkinfy": header}))


def classifier(architecture: str, outputs: int = 7, **taxonomy: Any) -> dict[str, Any]:
    return {
        "role": "classifier",
        "network": {"architecture": architecture, "input_size": 224, "outputs": outputs},
        "taxonomy": taxonomy,
    }


def test_a_network_that_the_file_does_not_hold_is_not_built() -> None:
    # 22 billion weights: 88 GB.
    data = saved(classifier("eva02_enormous_patch14_clip_224"), {"x": torch.zeros(3)})
    start = time.process_time()
    with pytest.raises(CheckpointError, match="lacks most of its weights") as told:
        checkpoint.from_bytes(data, "case")
    assert time.process_time() - start < 20
    advised(told)


def test_a_taxonomy_wider_than_any_is_refused() -> None:
    classes = [f"c{i}" for i in range(100_000)]
    info = classifier("test_efficientnet", len(classes), classes=classes, graded=[], malignant=[])
    with pytest.raises(CheckpointError, match=r"taxonomy.classes: .* at most 1024") as told:
        checkpoint.from_bytes(saved(info, {"x": torch.zeros(3)}), "case")
    advised(told)


@pytest.mark.parametrize("length", [0, 2**20, 2**40, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(length: int) -> None:
    data = saved(classifier("test_efficientnet"), {"x": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="not a checkpoint") as told:
        checkpoint.from_bytes(length.to_bytes(8, "little") + data[8:], "case")
    advised(told)


def test_a_header_of_nothing_is_refused() -> None:
    header = b'{"__metadata__":null}'
    with pytest.raises(CheckpointError, match="not a checkpoint") as told:
        checkpoint.from_bytes(len(header).to_bytes(8, "little") + header, "case")
    advised(told)


def pth(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refused_pth(path: Path, message: str) -> None:
    start = time.process_time()
    with pytest.raises(CheckpointError, match=message) as told:
        origin.load_classifier(path, Taxonomy(), "unknown")
    assert time.process_time() - start < 20
    advised(told)


@pytest.mark.parametrize("name", ["classifier.weight", "conv_stem.weight"])
def test_a_tensor_larger_than_its_bytes_is_refused(name: str, tmp_path: Path) -> None:
    # A view of four bytes that is 28 TB when it is copied.
    huge = torch.zeros(1).expand(7, 10**12)
    refused_pth(pth(tmp_path / "a.pth", {name: huge}), "more than it has")


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    path = pth(tmp_path / "a.pth", {"x": torch.zeros(2**18)})
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    path.write_bytes(packed.getvalue())
    refused_pth(path, "is not a PyTorch checkpoint, or is damaged")


@pytest.mark.parametrize("row", [float("inf"), torch.zeros(3), "x" * 10**5, []])
def test_a_label_map_of_no_rows_is_refused(row: object, tmp_path: Path) -> None:
    head = {"classifier.weight": torch.zeros(7, 4), "classifier.bias": torch.zeros(7)}
    labels = dict.fromkeys(Taxonomy().classes, row)
    refused_pth(pth(tmp_path / "a.pth", {"model": head, "label_map": labels}), "not a number")
