"""A LiteRT file that is composed from its stages' files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from classkinfy_export import contract, runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, WorkingSize
from classkinfy_export.formats.litert import conversion
from classkinfy_export.formats.litert.compose import Stage, compose
from classkinfy_export.jobs import export
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.latency.operators.litert_graph import SignatureGraph
from classkinfy_export.parity.ranges import calibrated
from classkinfy_export.recipes import CalibrationRecipe, ExportRecipe
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages.decide import Decide
from classkinfy_export.stages.select import Select
from classkinfy_export.taxonomy import Taxonomy

INT8 = "static_wi8_ai8"
CAPTURE, SIZE = Capture(height=96, width=128), WorkingSize(height=96, width=128)


@pytest.fixture(scope="module")
def data(trunk_bundle: Path) -> bytes:
    return (trunk_bundle / "models" / "litert" / "main.tflite").read_bytes()


def graphs(model: schema.ModelT) -> dict[str, schema.SubGraphT]:
    return {s.signatureKey.decode(): model.subgraphs[s.subgraphIndex] for s in model.signatureDefs}


def test_weights_are_in_the_file_once(data: bytes) -> None:
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    contents = [bytes(b.data) for b in model.buffers if b.data is not None and len(b.data)]
    assert len(contents) == len(set(contents))
    large = {i for i, b in enumerate(model.buffers) if b.data is not None and len(b.data) > 4096}
    held = {
        name: large & {tensor.buffer for tensor in graph.tensors}
        for name, graph in graphs(model).items()
    }
    stages = set().union(*(of for name, of in held.items() if name != "pipeline"))
    assert held["classify"]
    assert held["pipeline"] == stages


def test_no_two_tensors_are_called_alike(data: bytes) -> None:
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    names = [tensor.name for graph in model.subgraphs for tensor in graph.tensors]
    assert len(names) == len(set(names))


def test_buffers_are_where_a_runtime_may_map_them(data: bytes) -> None:
    model, whole = schema.Model.GetRootAs(data, 0), np.frombuffer(data, np.uint8)
    places = [
        model.Buffers(i).DataAsNumpy().__array_interface__["data"][0]
        - whole.__array_interface__["data"][0]
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert places
    assert not any(place % 16 for place in places)


def test_the_fused_graph_runs_the_operators_of_all_stages(data: bytes) -> None:
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    found = {name: [op.opcodeIndex for op in g.operators] for name, g in graphs(model).items()}
    staged = [kind for name, kinds in found.items() if name != "pipeline" for kind in kinds]
    assert found["pipeline"][: len(staged)] == staged
    assert len(found["pipeline"]) > len(staged), "what decides, and what selects"


def test_tensors_of_the_fused_graph_tell_of_their_stage(data: bytes) -> None:
    modules = set(SignatureGraph(data, "pipeline").placed().values())
    assert "classify.backbone.blocks.0.0.conv" in modules
    assert {"prepare", "screen", "classify", "grade_mel", "decide", "select"} <= {
        module.partition(".")[0] for module in modules
    }


def test_ranges_of_the_fused_graph_are_the_stages(quantised_bundle: Path) -> None:
    bundle = Bundle.open(quantised_bundle)
    model = bundle.manifest.find_model("classify", "litert", INT8)
    assert model is not None
    tensors = {
        name: graph.tensors
        for name, graph in graphs(
            schema.ModelT.InitFromPackedBuf(bundle.read(model.path), 0)
        ).items()
    }
    found: dict[str, list[object]] = {"classify": [], "pipeline": []}
    for key, bounds in calibrated(bundle, model).items():
        entry, _, index = key.partition("/")
        tensor = tensors[entry][int(index)]
        name = tensor.name.decode().rpartition("/")[2]
        found[entry].append((name, tensor.type, tuple(tensor.shape), bounds))
    assert found["classify"]
    assert found["pipeline"] == found["classify"]


def test_heads_meet_their_routes_whatever_their_order() -> None:
    heads, routes = ("grade_nv", "grade_akiec", "grade_mel"), (5, 0, 4)
    fused = contract.pipeline_spec(CAPTURE, SIZE, Taxonomy())
    given = {head: np.full((1, 3), place, np.float32) for place, head in enumerate(heads)}
    data = conversion.convert(Select(routes, 3), contract.select_spec(fused, heads))
    run = Interpreter(model_content=data).get_signature_runner("select")
    for diagnosis in range(-1, 7):
        (severity,) = run(diagnosis=np.array([diagnosis], np.int32), **given).values()
        wanted = given[heads[routes.index(diagnosis)]] if diagnosis in routes else [[np.nan] * 3]
        np.testing.assert_array_equal(severity, wanted)


class Pooled(nn.Module):
    """Takes means without the border, which LiteRT does by an operator with a graph of its own."""

    def forward(self, clean: torch.Tensor) -> dict[str, torch.Tensor]:
        planes = clean.float().permute(0, 3, 1, 2)
        means = nn.functional.avg_pool2d(planes, 3, 2, padding=1, count_include_pad=False)
        return {"probabilities": means[:, :, 0, :7].mean(1)}


def test_an_operator_that_runs_a_graph_of_its_own_finds_it_again() -> None:
    alone = conversion.convert(Pooled().eval(), contract.classify_spec(SIZE, Taxonomy(), None))
    assert len(schema.ModelT.InitFromPackedBuf(alone, 0).subgraphs) > 1
    stages = {"decide": Stage(_decide()), "classify": Stage(alone)}
    together = compose(("decide", "classify"), stages, assembly=None).data  # type: ignore[arg-type]
    photo = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)
    run = Interpreter(model_content=together).get_signature_runner("classify")
    levels = photo[0].mean(2)
    means = [levels[:2, max(2 * x - 1, 0) : 2 * x + 2].mean() for x in range(7)]
    np.testing.assert_allclose(run(clean=photo)["probabilities"], [means], rtol=1e-5)


def _decide() -> bytes:
    spec = contract.decide_spec(contract.pipeline_spec(CAPTURE, SIZE, Taxonomy()))
    return conversion.convert(Decide(()), spec)


@pytest.mark.slow
def test_int8_can_be_had_in_a_fused_graph_alone(
    checkpoints: Callable[[str], Sources],
    small_recipe: ExportRecipe,
    quantised_bundle: Path,
    lesions: list[Path],
    tmp_path: Path,
) -> None:
    recipe = small_recipe.model_copy(
        update={
            "formats": ("litert",),
            "forms": ("fused",),
            "precisions": (INT8,),
            "calibration": CalibrationRecipe(images=8),
            "golden": False,
        }
    )
    sources, photos = checkpoints("trunk"), lesions[0].parent
    made = export.export(sources, recipe, tmp_path / "fused", calibration=photos)
    engines = (
        runtimes.get("litert").open(bundle, precision=INT8)
        for bundle in (made, Bundle.open(quantised_bundle))
    )
    one, other = (Session(engine, "fused").predict(lesions[0]) for engine in engines)
    assert one.probabilities == other.probabilities
