"""The demo app's results are summarised as the host's, and checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_phone import MEASURED, Phone

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import MANIFEST, SEAL, Manifest, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import (
    ClasskinfyError,
    IntegrityError,
)
from classkinfy_export.latency.device import app
from classkinfy_export.latency.device.bench import bench_on_device
from classkinfy_export.latency.device.payload import Payload

SLOWER = {**MEASURED, "latency_ms": [12.0, 13.0, 14.0], "cold_start_ms": 140.0}


def test_the_app_is_summarised_as_the_host_is(bundle: Bundle, phone: Phone) -> None:
    phone.write(app=[{"measurement": measured} for measured in (MEASURED, MEASURED, SLOWER)])
    report = bench_on_device(bundle, threads=(4,), n=6, warmup=2, rounds=2)
    runtimes = [(row.runtime, row.form, row.threads) for row in report.rows]
    assert runtimes == [("litert", "staged", 4), ("onnxruntime", "staged", 4)]
    row = report.rows[1]
    every = [*MEASURED["latency_ms"], *SLOWER["latency_ms"]]  # started second and third
    assert row.p50_ms == pytest.approx(np.percentile(every, 50))
    assert row.p90_ms == pytest.approx(np.percentile(every, 90))
    assert row.p99_ms == pytest.approx(np.percentile(every, 99))
    assert row.answers == 6
    assert row.cold_start_ms == 130.0
    assert row.stages_p50_ms == {"frame": 1.0, "prepare": 3.0, "classify": 7.0}
    assert row.told_p50_ms == {"diagnosis": 11.0}
    assert (row.peak_mib, row.added_mib, row.pss_mib) == (150.0, 50.0, 90.0)
    assert row.steady_mib == 20.0
    assert row.route == "mel"
    assert row.spread == pytest.approx(13.0 / 11.0)
    assert (row.sum_p50_ms, row.sum_mean_ms, row.cores) == (None, None, ())
    assert report.conditions["app"] == "1.0"
    assert report.conditions["app litert"] == "1.2.3"
    assert report.image == "app: synthetic lesion"
    started = [line for line in phone.commands() if "am start" in line]
    assert len(started) == 4
    folder = f"/data/local/tmp/classkinfy-{bundle.sha256[:12]}"
    for extra in (
        f"--es bundle {folder}/bundle",
        f"--es photo {folder}/photo",
        "--es runtime litert --es form staged --es precision fp32",
        "--ei threads 4 --ei n 3 --ei warmup 2",
    ):
        assert extra in started[0]
    order = [re.search(r"runtime (\w+)", line)[1] for line in started]
    assert order == ["litert", "onnxruntime", "onnxruntime", "litert"]
    assert phone.left() == []


@pytest.mark.parametrize("kind", ["folder", "archive", "written otherwise"])
def test_the_app_gets_the_whole_bundle_and_the_photo(
    bundle: Bundle, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    phone.write(app=[{"measurement": MEASURED}])
    monkeypatch.setattr(Payload, "remove", lambda self: True)
    if kind == "archive":
        writer.pack(bundle.path, tmp_path / "bundle.ckb")
        bundle = Bundle.open(tmp_path / "bundle.ckb")
    elif kind == "written otherwise":  # by an older version, say
        path = bundle.path / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        (bundle.path / SEAL).write_text(f"{sha256}  {MANIFEST}\n")
        bundle = Bundle.open(bundle.path)
    report = bench_on_device(bundle, threads=(1,), rounds=1, photo=b"a photo")
    assert report.image == "app: given"
    (photo,) = [path for path in phone.left() if path.name == "photo"]
    assert photo.read_bytes() == b"a photo"
    copy = Bundle.open(photo.parent / "bundle")
    assert copy.sha256 == bundle.sha256


def test_every_precision_that_the_bundle_holds_is_measured_in_turn(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    added = []
    for stage in ("classify", "grade_mel", "grade_nv"):
        path = f"models/{stage}.fp16.onnx"
        (bundle.path / path).write_bytes(b"half")
        added.append(ModelFile(path=path, format="onnx", precision="fp16", entries={stage: stage}))
    prepare = next(model for model in bundle.manifest.models if "prepare" in model.entries)
    added.append(prepare.model_copy(update={"precision": "fp16"}))
    changed = {
        **dict(bundle.manifest),
        "models": (*bundle.manifest.models, *added),
        "files": writer.pin(bundle.path),
    }
    writer.seal(bundle.path, Manifest.model_validate(changed))
    both = Bundle.open(bundle.path)
    tools = {"onnxruntime": tool("onnxruntime_perf_test")}
    report = bench_on_device(both, tools=tools, threads=(1,), rounds=1)
    assert [row.precision for row in report.rows] == ["fp32", "fp16"]
    assert phone.runs() == [
        *("prepare", "classify", "grade_nv"),
        *("prepare", "classify.fp16", "grade_mel.fp16"),
    ], "of files of one size, the first"
    assert report.not_run["litert fp16"] == "the bundle does not hold it"
    (row,) = bench_on_device(both, tools=tools, precisions=["fp16"], threads=(1,), rounds=1).rows
    assert row.precision == "fp16"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"app": [{"error": "no LiteRT in this build"}]}, "the demo app: litert .*no LiteRT"),
        ({"app": [None]}, "ended without a result: see why: adb -s R5CT logcat"),
        ({"app": [{"measurement": MEASURED, "surprise": 1}]}, "unknown key 'surprise'"),
        (
            {"app": [{"measurement": {**MEASURED, "latency_ms": [1.0]}}]},
            "need a time of every answer",
        ),
        ({"app": [{}]}, "give either 'error' or 'measurement'"),
        (
            {"app": [{"measurement": MEASURED, "manifest_sha256": "0" * 64}]},
            "measured bundle 000000000000 ",
        ),
        ({"app": [{"measurement": MEASURED, "request": "older"}]}, "for 'older', and was asked"),
        ({"app": [{"measurement": MEASURED}], "awake": False}, "the phone's screen is off"),
        (
            {"app": [{"measurement": MEASURED}], "started": "not_executable.txt"},
            r"BenchmarkActivity did not start: .*: install the demo app",
        ),
    ],
)
def test_an_app_without_a_good_result_is_an_error(
    bundle: Bundle, phone: Phone, script: dict[str, Any], said: str
) -> None:
    phone.write(**script)
    with pytest.raises(ClasskinfyError, match=said):
        bench_on_device(bundle, threads=(1,))
    assert phone.left() == []


def test_the_documented_result_is_one_that_is_read() -> None:
    page = (Path(__file__).parents[3] / "docs" / "latency-on-a-phone.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert app.AppResult.model_validate_json(example).measurement is not None
    for name in app.Order._fields:
        assert re.search(rf"--e[si] {name} ", page), f"extra {name} is not documented"


def test_app_and_tools_take_turns(bundle: Bundle, phone: Phone, tool: Callable[..., Path]) -> None:
    phone.write(app=[{"measurement": MEASURED}])
    tools = {
        "litert": tool("benchmark_model"),
        "onnxruntime": tool("onnxruntime_perf_test"),
    }
    report = bench_on_device(bundle, tools=tools, threads=(1, 2), rounds=1)
    found = [(row.source, row.runtime, row.threads) for row in report.rows]
    assert found == [
        *(("app", runtime, n) for runtime in ("litert", "onnxruntime") for n in (1, 2)),
        *(("benchmark_model", "litert", n) for n in (1, 2)),
        *(("onnxruntime_perf_test", "onnxruntime", n) for n in (1, 2)),
    ]
    assert report.not_run == {}
    assert report.image == "app: synthetic lesion; tools: random bytes"


def test_a_manifest_that_changes_after_it_was_opened_is_not_copied(
    bundle: Bundle, phone: Phone
) -> None:
    phone.write(app=[{"measurement": MEASURED}])
    path = bundle.path / MANIFEST
    path.write_text(path.read_text().replace("tiny", "huge"))
    with pytest.raises(IntegrityError, match=r"manifest\.json was changed since"):
        bench_on_device(bundle, threads=(1,))
    assert not any(line.startswith("push") for line in phone.commands())
