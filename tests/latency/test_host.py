"""What ``bench`` reports is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError
from classkinfy_export.latency.host import bench
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
        assert row.peak_mib > row.added_mib > 0
        assert row.speedup is None, "PyTorch was not measured"
    staged, fused = (next(r for r in report.rows if r.form == f) for f in ("staged", "fused"))
    assert {"prepare", "classify"} <= set(staged.stages_p50_ms)
    assert set(fused.stages_p50_ms) == {"pipeline"}
    files = {p.stem: p.stat().st_size for p in (trunk_bundle / "models/onnx").glob("*.onnx")}
    assert fused.model_mib == pytest.approx(files.pop("pipeline") / 2**20)
    assert staged.model_mib == pytest.approx(sum(files.values()) / 2**20)


def test_a_precision_is_measured_by_its_own_files_alone(light_bundle: Path) -> None:
    bundle = Bundle.open(light_bundle)
    models = light_bundle / "models" / "onnx"
    for precision, beside in (("fp32", ""), ("fp16", ".fp16")):
        report = bench(
            bundle, names=["onnxruntime"], precision=precision, threads=(1,), n=3, rounds=1
        )
        assert report.precision == precision
        staged, fused = report.rows
        assert fused.model_mib == pytest.approx(
            (models / f"pipeline{beside}.onnx").stat().st_size / 2**20
        )
        own = [f"{n}{beside}" for n in ("classify", "grade_akiec", "grade_mel", "grade_nv")]
        sizes = [(models / f"{n}.onnx").stat().st_size for n in ("prepare", "screen", *own)]
        assert staged.model_mib == pytest.approx(sum(sizes) / 2**20)
    with pytest.raises(BundleError, match=r"no static_wi8_ai8: it holds fp32, fp16, weight_only"):
        bench(bundle, precision="static_wi8_ai8")


def test_the_baseline_is_fp32_whatever_is_measured(
    light_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.latency import host

    asked = {}

    def fake(command: list[str], **_: object) -> SimpleNamespace:
        given = json.loads(command[-1])
        asked[given["runtime"], given["form"]] = given["precision"]
        times = {"latency_ms": [1.0], "stages_ms": {"pipeline": [1.0]}, "diagnosis": 4}
        others = ("load_ms", "first_ms", "cold_start_ms", "peak_bytes", "baseline_bytes")
        return SimpleNamespace(
            returncode=0, stdout=json.dumps({**times, **dict.fromkeys(others, 1.0)})
        )

    monkeypatch.setattr(host, "subprocess", SimpleNamespace(run=fake))
    bench(
        Bundle.open(light_bundle),
        names=["pytorch", "litert"],
        precision="fp16",
        threads=(1,),
        n=1,
        rounds=1,
    )
    assert asked == {
        ("pytorch", "staged"): "fp32",
        ("litert", "staged"): "fp16",
        ("litert", "fused"): "fp16",
    }


def test_percentiles_are_numpys_over_all_rounds(
    trunk_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.latency import host

    rounds = ([1.0, 2.0, 3.0], [2.0, 4.0, 30.0])
    answers = iter([latencies for latencies in rounds for _ in ("staged", "fused")])

    def fake(*_: object) -> dict[str, object]:
        latencies = next(answers)
        common = dict.fromkeys(("load_ms", "first_ms", "cold_start_ms"), 5.0)
        memory = {"peak_bytes": 3 * 2**20, "baseline_bytes": 2**20}
        return {
            "latency_ms": latencies,
            "diagnosis": 4,
            "stages_ms": {"pipeline": latencies},
            **common,
            **memory,
        }

    monkeypatch.setattr(host, "_spawn", fake)
    row = bench(Bundle.open(trunk_bundle), names=["litert"], threads=(1,), n=6, rounds=2).rows[0]
    assert row.p50_ms == pytest.approx(2.5)
    assert row.p90_ms == pytest.approx(17.0)
    assert row.spread == pytest.approx(2.0)
    assert row.noisy
    assert (row.peak_mib, row.added_mib) == (3.0, 2.0)
    assert row.route == "mel"


def test_a_bundle_that_no_runtime_here_can_run_is_an_error(trunk_bundle: Path) -> None:
    bundle = Bundle.open(trunk_bundle)
    with pytest.raises(BundleError, match="is unknown"):
        bench(bundle, names=["nothing-such"])
    with pytest.raises(BundleError, match="in a process of its own, and is not timed as an app"):
        bench(bundle, names=["tensorflow"])


def test_the_worker_counts_as_many_answers_as_it_was_asked_for(
    trunk_bundle: Path, tmp_path: Path
) -> None:
    import numpy as np

    np.save(tmp_path / "image.npy", np.full((1, 96, 128, 3), 128, np.uint8))
    result = measure(
        str(trunk_bundle), str(tmp_path / "image.npy"), "onnxruntime", "staged", 1, 2, 5
    )
    assert len(result["latency_ms"]) == 5
    assert result["cold_start_ms"] == pytest.approx(
        result["open_ms"] + result["load_ms"] + result["first_ms"]
    )
