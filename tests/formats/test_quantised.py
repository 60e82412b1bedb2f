"""Facts about int8 files: what is quantised in them, by which formula, and what is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from model_files import CONVOLUTIONS, arrays, graph

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import ImageError, RecipeError
from classkinfy_export.frame import frame
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.quantization.photos import choose, others
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.taxonomy import Taxonomy

INT8 = "static_wi8_ai8"


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


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_the_mean_embedding_of_the_calibration_photos_is_that_of_fp32(
    quantised_bundle: Path, lesions: list[Path], format: str
) -> None:
    bundle = Bundle.open(quantised_bundle)
    photos = choose(lesions[0].parent, CalibrationRecipe(images=8), bundle.manifest.taxonomy)
    assert len(photos.paths) == 8
    framed = [frame(path, bundle.manifest.capture, "crop") for path in photos.paths]
    runtime = runtimes.get("onnxruntime" if format == "onnx" else "litert")
    session = Session(runtime.open(bundle))
    floats = [session.run(image) for image in framed]
    if format == "onnx":
        rounded = _as_written(
            quantised_bundle / "models" / "onnx" / f"classify.{INT8}.onnx", floats
        )
    else:
        session = Session(runtime.open(bundle, precision=INT8))  # type: ignore[arg-type]
        rounded = [session.run(image)["embedding"] for image in framed]
    errors = np.concatenate(rounded) - np.concatenate([values["embedding"] for values in floats])
    noise = np.abs(errors).mean()
    assert noise > 0.0
    assert np.abs(errors.mean(axis=0)).mean() < 0.02 * noise


def _as_written(path: Path, photos: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """Return embeddings as a file's arithmetic is written: float, between QDQ.

    ONNX Runtime's int8 kernels add in another order, and a value between two codes can get the
    other. In a network as small as this one that moves a photo's whole embedding.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return [session.run(["embedding"], {n: photo[n] for n in names})[0] for photo in photos]


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
