"""A profile says what ran, for which module, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, MissingDependencyError
from classkinfy_export.latency.operators import ProfileReport, profile
from classkinfy_export.latency.operators.alignment import align
from classkinfy_export.latency.operators.hints import hint
from classkinfy_export.latency.operators.litert_graph import LitertOperator, SignatureGraph
from classkinfy_export.latency.operators.modules import place
from classkinfy_export.latency.operators.onnxruntime import ProfiledOnnx, _runs
from classkinfy_export.latency.operators.recording import Recorded
from classkinfy_export.runtimes.session import Session
from classkinfy_export.stages.network import Network

CONVOLUTIONS = ("Conv", "QLinearConv", "CONV_2D", "DEPTHWISE_CONV_2D")
IMAGE = np.random.default_rng(7).integers(0, 256, (1, 96, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def report(trunk_bundle: Path) -> ProfileReport:
    return profile(Bundle.open(trunk_bundle), n=5, warmup=1)


def timms(bundle: Bundle) -> Counter[str]:
    """Paths of the classifier's convolutions, as timm's network itself names them."""
    network = Network(bundle.manifest.networks["classify"])
    found = network.named_modules()
    return Counter(name for name, module in found if isinstance(module, torch.nn.Conv2d))


def placed(report: ProfileReport, runtime: str) -> Counter[str | None]:
    (ours,) = (p for p in report.runtimes if p.runtime == runtime)
    (stage,) = (s for s in ours.stages if s.stage == "classify")
    return Counter(row.module for row in stage.operators if row.operator in CONVOLUTIONS)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_every_convolution_is_of_the_module_that_timm_names(
    report: ProfileReport, trunk_bundle: Path, runtime: str
) -> None:
    wanted = timms(Bundle.open(trunk_bundle))
    assert len(wanted) > 10
    assert placed(report, runtime) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_in_int8_too(quantised_bundle: Path, runtime: str) -> None:
    bundle = Bundle.open(quantised_bundle)
    ours = profile(bundle, names=[runtime], precision="static_wi8_ai8", n=2, warmup=0)
    assert placed(ours, runtime) == timms(bundle)
    assert ours.precision == "static_wi8_ai8"
    (stage,) = (s for s in ours.runtimes[0].stages if s.stage == "classify")
    swish = "QLinearSigmoid" if runtime == "onnxruntime" else "LOGISTIC+MUL"
    assert sum(row.operator == swish for row in stage.operators) >= 10
    borders = {"DequantizeLinear", "DEQUANTIZE"}
    assert all(row.hint for row in stage.operators if row.operator in borders)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_an_activation_is_of_the_block_that_timm_has_it_in(
    report: ProfileReport, trunk_bundle: Path, runtime: str
) -> None:
    network = Network(Bundle.open(trunk_bundle).manifest.networks["classify"])
    # ONNX Runtime has the gates of squeeze and excite in the convolutions before them.
    kinds = (torch.nn.SiLU, torch.nn.Sigmoid) if runtime == "litert" else (torch.nn.SiLU,)
    wanted = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    (ours,) = (p for p in report.runtimes if p.runtime == runtime)
    (stage,) = (s for s in ours.stages if s.stage == "classify")
    found = [r.module for r in stage.operators if r.operator in ("QuickGelu", "LOGISTIC")]
    assert len(found) == len(wanted) >= 10
    for path, name in zip(found, wanted, strict=True):
        assert path is not None
        # The exported network calls the last step of an activation by another name.
        block = path.rpartition(".")[0] if runtime == "litert" else path
        assert not block or name.startswith(f"{block}."), (path, name)
    blocks = [path for path in found if path is not None and path.startswith("backbone.blocks.3.0")]
    assert len(blocks) == sum(name.startswith("backbone.blocks.3.0.") for name in wanted)


def test_operators_take_no_longer_than_the_run_that_they_are_in(report: ProfileReport) -> None:
    assert [ours.runtime for ours in report.runtimes] == ["onnxruntime", "litert"]
    for ours in report.runtimes:
        assert ours.form == "staged"
        assert [stage.stage for stage in ours.stages[:3]] == ["prepare", "screen", "classify"]
        assert len(ours.stages) <= 4, "one grader at most"
        for stage in ours.stages:
            assert 0 < stage.operators_ms <= stage.profiled_ms, (ours.runtime, stage.stage)
        total = sum(row.ms for stage in ours.stages for row in stage.operators)
        for totals in (ours.by_operator, ours.by_module):
            assert sum(group.ms for group in totals) == pytest.approx(total)
            assert sum(group.share for group in totals) == pytest.approx(1.0)
            assert [g.ms for g in totals] == sorted((g.ms for g in totals), reverse=True)
        dearest = [row.ms for _, row in ours.dearest(10)]
        assert dearest == sorted(dearest, reverse=True)
        assert len(dearest) == 10
    classify = report.runtimes[1].stages[2]
    assert classify.operators_ms > classify.wall_ms / 2, "most of the time is the operators'"


def test_every_kernel_of_xnnpack_is_some_operators(report: ProfileReport) -> None:
    rows = [row for stage in report.runtimes[1].stages for row in stage.operators]
    assert sum(row.kernel is not None for row in rows) > 500
    assert [row for row in rows if row.node == "?"] == []


def test_coverage_is_what_the_interpreters_own_plan_says(
    report: ProfileReport, trunk_bundle: Path
) -> None:
    from ai_edge_litert.interpreter import Interpreter

    data = (trunk_bundle / "models" / "litert" / "main.tflite").read_bytes()
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    plan = interpreter._get_ops_details()  # of the first signature, which is prepare
    own = [op for op in plan if op["op_name"] != "DELEGATE"]
    taken = [delegated(op, own) for op in plan if op["op_name"] == "DELEGATE"]
    left = {op["index"] for op in own}.difference(*taken)
    coverage = report.runtimes[1].stages[0].coverage
    assert coverage is not None
    assert coverage.nodes == len(own)
    assert coverage.delegated == sum(map(len, taken)) > 100
    assert coverage.partitions == len(taken) > 1
    assert coverage.left == Counter(op["op_name"] for op in own if op["index"] in left)
    parts = SignatureGraph(data, "prepare").parts(left)
    assert [{op.index for op in part.operators} for part in parts if part.delegated] == taken
    assert all(stage.coverage is None for stage in report.runtimes[0].stages)


def delegated(part: dict[str, Any], own: list[dict[str, Any]]) -> set[int]:
    """Operators on the way from what a delegate reads to what it gives."""
    makers = {int(tensor): op for op in own for tensor in op["outputs"]}
    given = {int(tensor) for tensor in part["inputs"]}
    found: set[int] = set()
    waiting = [int(tensor) for tensor in part["outputs"]]
    while waiting:
        tensor = waiting.pop()
        if tensor not in given and tensor in makers and makers[tensor]["index"] not in found:
            found.add(makers[tensor]["index"])
            waiting += [int(i) for i in makers[tensor]["inputs"] if i >= 0]
    return found


def test_the_fused_graph_runs_one_grader_and_counts_it_once(
    trunk_bundle: Path, tmp_path: Path
) -> None:
    engine = ProfiledOnnx(Bundle.open(trunk_bundle), "fp32", 1, tmp_path)
    diagnoses = [int(Session(engine, "fused").run(IMAGE)["diagnosis"][0]) for _ in range(3)]
    route = engine.bundle.manifest.taxonomy.classes[diagnoses[0]]
    recording = engine.recorded("pipeline", 2)
    heads = {row.node.split("/")[0] for row in recording.operators if "/node_linear" in row.node}
    heads = {head.removeprefix("fused ") for head in heads if "grade_" in head}
    assert heads == ({f"grade_{route}"} if route in ("akiec", "mel", "nv") else set())
    for run, wall_ms in enumerate(recording.walls_ms):
        assert sum(row.us[run] for row in recording.operators) <= wall_ms * 1e3
    modules = {row.module for row in recording.operators if row.operator == "Conv"}
    assert {m.split(".")[0] for m in modules if m is not None} == {"classify"}


def test_what_runs_in_another_operator_is_not_counted_twice() -> None:
    def event(name: str, kind: str, ts: int, dur: int) -> dict[str, Any]:
        arguments = {"op_name": kind}
        return {
            "cat": "Node",
            "name": f"{name}_kernel_time",
            "ts": ts,
            "dur": dur,
            "args": arguments,
        }

    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 100},
        event("a", "Conv", 0, 10),
        event("c", "Gemm", 32, 20),
        event("inner", "If", 31, 25),  # written when it ends, as all that hold others are
        event("outer", "If", 30, 40),
        event("z", "Softmax", 70, 5),
        {"cat": "Session", "name": "model_run", "ts": 200, "dur": 50},
        event("a", "Conv", 200, 12),
    ]
    first, second = _runs(events)
    named = [(e.content["name"].removesuffix("_kernel_time"), e.own_us) for e in first]
    assert named == [("a", 10), ("outer", 15), ("inner", 5), ("c", 20), ("z", 5)]
    assert [e.own_us for e in second] == [12]


def test_a_module_is_told_of_what_lies_between_its_own_operators_only() -> None:
    flow: dict[str, tuple[list[str], list[str]]] = {
        "cast": (["image"], ["a"]),
        "stem": (["a"], ["b"]),
        "act": (["b"], ["c"]),
        "expand": (["c"], ["d"]),
        "sigmoid": (["d"], ["e"]),
        "mul": (["d", "e"], ["f"]),
        "project": (["f"], ["g"]),
        "add": (["c", "g"], ["h"]),
        "next": (["h"], ["i"]),
        "softmax": (["i"], ["out"]),
    }
    known = {
        "stem": "backbone.stem",
        "expand": "backbone.blocks.0.0.pw",
        "project": "backbone.blocks.0.0.pwl",
        "next": "backbone.blocks.0.1.pw",
    }
    assert place(flow, known) == known | {
        "act": "backbone",
        "sigmoid": "backbone.blocks.0.0",
        "mul": "backbone.blocks.0.0",
        "add": "backbone.blocks.0",
    }


def operators(*kinds: str) -> list[LitertOperator]:
    """A chain of them."""
    return [
        LitertOperator(i, kind, (i,), (i + 1,), "", "float32", (1,), activated=False)
        for i, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("kernels", "kinds", "places"),
    [
        (["Convolution (NHWC, F32) IGEMM"], ["PAD", "CONV_2D"], [1]),
        (["Constant Pad (ND, X32)", "Fully Connected (NC, F32)"], ["PAD", "CONV_2D"], [0, 1]),
        (["Clamp (NC)"], ["MAXIMUM", "MINIMUM"], [0]),
        # Of two that are alike, one was fused, and nothing says which.
        (["Clamp (NC)", "Floor (NC)"], ["RELU", "RELU", "FLOOR"], [None, 2]),
        (["Floor (NC)"], ["FLOOR", "FLOOR"], [None]),
        (["A Kernel That Nobody Knows (NC)", "Floor (NC)"], ["ADD", "FLOOR"], [None, None]),
    ],
)
def test_a_kernel_is_an_operators_only_where_nothing_else_can_be(
    kernels: list[str], kinds: list[str], places: list[int | None]
) -> None:
    assert align(kernels, operators(*kinds)) == places


@pytest.mark.parametrize(
    ("runtime", "operator", "dtype", "kernel", "says"),
    [
        ("onnxruntime", "MaxPool", "uint8", None, "Slice and Max"),
        ("onnxruntime", "MaxPool", "float32", None, None),
        ("litert", "REDUCE_WINDOW", "uint8", None, "no uint8 pooling"),
        ("onnxruntime", "QLinearSigmoid", "int8", None, "two passes"),
        ("onnxruntime", "DequantizeLinear", "float32", None, "not fused"),
        ("onnxruntime", "ReorderOutput", "float32", None, "change of layout"),
        ("litert", "MIRROR_PAD", "float32", None, "Slice and Concat"),
        ("litert", "CAST", "uint8", None, "did not take it"),
        ("litert", "ADD", "float32", "Add (ND)", None),
        ("onnxruntime", "Conv", "float32", None, None),
    ],
)
def test_a_hint_is_given_where_one_is_known(
    runtime: str, operator: str, dtype: str, kernel: str | None, says: str | None
) -> None:
    found = hint(runtime, Recorded(operator, "n", None, kernel, dtype, (1,), (1,)))
    assert (found is None) if says is None else (found is not None and says in found)


def test_a_profiler_leaves_no_file_behind(
    trunk_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in trunk_bundle.rglob("*")}
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    calls = []
    ours = profile(
        Bundle.open(trunk_bundle), n=1, warmup=0, progress=lambda *call: calls.append(call)
    )
    assert len(ours.runtimes) == 2
    assert calls == [(0, 2), (1, 2), (2, 2)]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert {path: path.stat().st_mtime_ns for path in trunk_bundle.rglob("*")} == before


def test_what_cannot_be_profiled_is_an_error(trunk_bundle: Path) -> None:
    bundle = Bundle.open(trunk_bundle)
    with pytest.raises(BundleError, match="pytorch has no profiler: these have: onnxruntime"):
        profile(bundle, names=["pytorch"])
    with pytest.raises(BundleError, match="the bundle holds no onnx static_wi8_ai8"):
        profile(bundle, precision="static_wi8_ai8")


def test_a_report_is_read_back_as_it_was_written(report: ProfileReport) -> None:
    assert ProfileReport.model_validate_json(report.model_dump_json()) == report


def test_another_release_of_litert_is_not_read_as_if_it_were_the_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.metadata

    from classkinfy_export.latency.operators import litert_library

    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.4.0")
    with pytest.raises(MissingDependencyError, match=r"known in ai-edge-litert 2\.3\.\*, and 2\.4"):
        litert_library._open()
