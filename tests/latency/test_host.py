"""What ``bench`` reports is what was measured."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_bundle import make_bundle

from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.latency.host import bench
from classkinfy_export.latency.operators import profile
from classkinfy_export.latency.report import LatencyReport, Ratio
from classkinfy_export.latency.worker import measure


def test_every_configuration_is_measured_in_a_process_of_its_own(trunk_bundle: Path) -> None:
    calls = []
    bundle = Bundle.open(trunk_bundle)
    report = bench(
        bundle,
        names=["onnxruntime"],
        threads=(1, 2),
        n=6,
        warmup=1,
        rounds=2,
        progress=lambda *call: calls.append(call),
    )
    assert [(r.runtime, r.form, r.threads) for r in report.rows] == [
        ("onnxruntime", form, threads) for form in ("staged", "fused") for threads in (1, 2)
    ]
    assert calls[-1] == (8, 8), "two rounds of four configurations"
    for row in report.rows:
        assert row.answers == 6
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms
        assert row.cold_start_ms > row.first_ms > 0
        assert row.peak_mib > row.added_mib >= row.steady_mib > 0
        assert row.of_pytorch is None, "PyTorch was not measured"
    staged, fused = (next(r for r in report.rows if r.form == f) for f in ("staged", "fused"))
    assert {"frame", "prepare", "classify"} <= set(staged.stages_p50_ms)
    assert set(fused.stages_p50_ms) == {"frame", "pipeline"}
    files = {p.stem: p.stat().st_size for p in (trunk_bundle / "models/onnx").glob("*.onnx")}
    assert fused.model_mib == pytest.approx(files.pop("pipeline") / 2**20)
    assert staged.model_mib == pytest.approx(sum(files.values()) / 2**20)


def test_a_precision_is_measured_by_its_own_files_alone(light_bundle: Path) -> None:
    bundle = Bundle.open(light_bundle)
    models = light_bundle / "models" / "onnx"
    for precision, beside in (("fp32", ""), ("fp16", ".fp16")):
        report = bench(
            bundle, names=["onnxruntime"], precisions=[precision], threads=(1,), n=3, rounds=1
        )
        assert {row.precision for row in report.rows} == {precision}
        staged, fused = report.rows
        assert fused.model_mib == pytest.approx(
            (models / f"pipeline{beside}.onnx").stat().st_size / 2**20
        )
        own = [f"{n}{beside}" for n in ("classify", "grade_akiec", "grade_mel", "grade_nv")]
        sizes = [(models / f"{n}.onnx").stat().st_size for n in ("prepare", "screen", *own)]
        assert staged.model_mib == pytest.approx(sum(sizes) / 2**20)
    with pytest.raises(BundleError, match=r"no static_wi8_ai8: it holds fp32, fp16, weight_only"):
        bench(bundle, precisions=["static_wi8_ai8"])


def measured(*latencies: float, diagnosis: int = 4) -> dict[str, object]:
    """What a process says, of answers that took so long."""
    fixed = ("load_ms", "first_ms", "cold_start_ms")
    memory = {"peak_bytes": 3 * 2**20, "steady_bytes": 2 * 2**20, "baseline_bytes": 2**20}
    return {
        "latency_ms": latencies,
        "diagnosis": diagnosis,
        "stages_ms": {"pipeline": latencies},
        "told_ms": {"diagnosis": latencies},
        **dict.fromkeys(fixed, 5.0),
        **memory,
    }


def test_the_baseline_is_fp32_whatever_is_measured(
    light_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.latency import fresh

    asked = []

    def fake(command: list[str], **_: object) -> SimpleNamespace:
        given = json.loads(command[-1])
        asked.append((given["runtime"], given["form"], given["precision"]))
        return SimpleNamespace(returncode=0, stdout=json.dumps(measured(1.0)))

    monkeypatch.setattr(fresh, "subprocess", SimpleNamespace(run=fake))
    bundle = Bundle.open(light_bundle)
    bench(bundle, names=["pytorch", "litert"], precisions=["fp16"], threads=(1,), n=1, rounds=2)
    once = [
        ("pytorch", "staged", "fp32"),
        ("litert", "staged", "fp16"),
        ("litert", "fused", "fp16"),
    ]
    assert asked == [*once, *reversed(once)], "every other round runs backwards"
    asked.clear()
    bench(bundle, names=["onnxruntime"], threads=(1,), n=1, rounds=1)
    assert {precision for _, _, precision in asked} == {"fp32", "fp16", "weight_only_wi8_afp32"}


def test_percentiles_are_numpys_over_all_rounds(
    trunk_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.latency import host

    rounds = iter((measured(1.0, 2.0, 3.0),) * 2 + (measured(2.0, 4.0, 30.0),) * 2)
    monkeypatch.setattr(host, "_spawn", lambda *_: next(rounds))
    row = bench(Bundle.open(trunk_bundle), names=["litert"], threads=(1,), n=6, rounds=2).rows[0]
    assert row.p50_ms == pytest.approx(2.5)
    assert row.p90_ms == pytest.approx(17.0)
    assert row.spread == pytest.approx(2.0)
    assert row.noisy
    assert (row.peak_mib, row.added_mib, row.steady_mib) == (3.0, 2.0, 1.0)
    assert row.route == "mel"


def test_two_bundles_are_compared_round_by_round(
    trunk_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from classkinfy_export.latency import host

    other = Bundle.open(shutil.copytree(trunk_bundle, tmp_path / "other"))
    bundle = Bundle.open(trunk_bundle)
    # The machine is three times as slow in the second round; the other bundle takes twice as long.
    slow = iter((1.0, 1.0, 3.0, 3.0, 1.1, 1.1))

    def fake(one: Bundle, *_: object) -> dict[str, object]:
        return measured(next(slow) * (2.0 if one is other else 1.0))

    monkeypatch.setattr(host, "_spawn", fake)
    monkeypatch.setattr(host, "_forms", lambda *_: iter(["fused"]))
    report = bench(bundle, against=other, names=["litert"], threads=(1,), n=3, rounds=3)
    assert report.against is not None
    (row,) = report.against.rows
    assert (row.ratio.value, row.ratio.low, row.ratio.high) == (0.5, 0.5, 0.5)
    assert report.holds == 0.75, "three of three on one side of the median: 2 of 8"
    assert not report.differs(row.ratio), "three rounds are too few"
    assert row.other.p50_ms == pytest.approx(2.2)
    assert report.against.not_compared == ()
    assert report.rows[0].noisy


@pytest.mark.parametrize(
    ("rounds", "low", "high", "differs"),
    [(5, 0.9, 0.99, True), (5, 1.01, 1.2, True), (5, 0.9, 1.02, False), (4, 0.9, 0.99, False)],
)
def test_a_ratio_tells_a_difference_where_enough_rounds_agree(
    rounds: int, low: float, high: float, differs: bool
) -> None:
    report = LatencyReport(
        bundle="b",
        manifest_sha256="",
        image="",
        warmup=0,
        rounds=rounds,
        rows=(),
        not_run={},
        conditions={},
    )
    assert report.differs(Ratio(value=(low + high) / 2, low=low, high=high)) is differs


def test_answers_are_spread_over_the_rounds(
    trunk_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.latency import host

    asked = []

    def fake(*given: object) -> dict[str, object]:
        asked.append((given[2], given[-1]))
        return measured(1.0)

    monkeypatch.setattr(host, "_spawn", fake)
    monkeypatch.setattr(host, "_forms", lambda *_: iter(["fused"]))
    bench(Bundle.open(trunk_bundle), names=["litert"], threads=(1, 1), n=8, rounds=3)
    assert [n for _, n in asked] == [3, 3, 2], "and a thread count that is given twice is one"


def test_a_process_that_a_signal_ended_is_told_of_as_that() -> None:
    from classkinfy_export.latency import fresh

    killed = SimpleNamespace(returncode=-9, stdout="", stderr="INFO: Created a delegate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh, "subprocess", SimpleNamespace(run=lambda *_, **__: killed))
        with pytest.raises(ClasskinfyError, match=r"^measuring failed: SIGKILL ended it; memory"):
            fresh.run("a.module", {}, "measuring")
    with pytest.raises(ClasskinfyError, match=r"^measuring failed: .*No module named"):
        fresh.run("no_such_module", {}, "measuring")


@pytest.mark.parametrize("work", [bench, profile])
def test_a_bundle_that_another_took_the_place_of_is_not_measured(
    work: Callable[..., object], tmp_path: Path, key: Path
) -> None:
    signed = writer.sign(make_bundle(tmp_path / "bundle"), key)
    opened = Bundle.open(signed.path, [signature.read_public(key.with_suffix(".pub.pem"))])
    shutil.rmtree(signed.path)
    other = make_bundle(signed.path, name="other")
    with pytest.raises(ClasskinfyError, match="bundle is not the bundle that was opened") as told:
        work(opened, names=["onnxruntime"])
    assert all(bundle.sha256 in str(told.value) for bundle in (opened, other))


def test_a_bundle_with_nothing_in_common_is_not_compared(
    trunk_bundle: Path, light_bundle: Path
) -> None:
    with pytest.raises(BundleError, match="holds none of what is measured"):
        bench(Bundle.open(light_bundle), against=Bundle.open(trunk_bundle), precisions=["fp16"])


def test_a_bundle_that_no_runtime_here_can_run_is_an_error(trunk_bundle: Path) -> None:
    bundle = Bundle.open(trunk_bundle)
    with pytest.raises(BundleError, match="is unknown"):
        bench(bundle, names=["nothing-such"])
    with pytest.raises(BundleError, match="in a process of its own, and is not timed as an app"):
        bench(bundle, names=["tensorflow"])


def test_the_worker_counts_from_bytes_to_answers(trunk_bundle: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.full((96, 128, 3), 128, np.uint8)).save(tmp_path / "photo.jpg")
    spawned = time.perf_counter() - 1.0
    result = measure(
        str(trunk_bundle),
        Bundle.open(trunk_bundle).sha256,
        str(tmp_path / "photo.jpg"),
        "onnxruntime",
        "staged",
        1,
        2,
        5,
        spawned,
    )
    assert len(result["latency_ms"]) == 5
    inside = result["open_ms"] + result["load_ms"] + result["first_ms"]
    assert result["cold_start_ms"] >= 1000.0 + inside
    for place, total in enumerate(result["latency_ms"]):
        stages = [clock[place] for clock in result["stages_ms"].values()]
        last = max(clock[place] for clock in result["told_ms"].values())
        assert last == pytest.approx(sum(stages))
        assert last <= total
