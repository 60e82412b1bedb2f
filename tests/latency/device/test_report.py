"""A report has what the host has, and its tables say what they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_phone import MEASURED, Phone

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.cli import device_tables, terminal
from classkinfy_export.latency.device.bench import bench_on_device
from classkinfy_export.latency.device.report import DeviceLatency, DeviceReport
from classkinfy_export.latency.device.route import route
from classkinfy_export.latency.report import Latency, LatencyReport
from classkinfy_export.latency.scope import model_bytes


def test_a_row_has_every_field_of_the_hosts() -> None:
    assert set(Latency.model_fields) <= set(DeviceLatency.model_fields)
    assert set(LatencyReport.model_fields) - {"against"} <= set(DeviceReport.model_fields)


def test_a_bundle_without_a_stage_in_a_format_has_no_route(bundle: Bundle) -> None:
    assert [step.stage for step in route(bundle, "litert", "fp32")] == [
        "prepare",
        "classify",
        "grade_nv",
    ]
    assert route(bundle, "pytorch", "fp32") == ()
    assert model_bytes(bundle, "litert", "fp32", "staged") == 5011
    assert model_bytes(bundle, "litert", "fp32", "fused") == 0


def test_the_table_names_sums_and_throttling(
    bundle: Bundle,
    phone: Phone,
    tool: Callable[..., Path],
    clock: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phone.write(app=[{"measurement": MEASURED}], thermal=[0, 0, 2])
    tools = {"litert": tool("benchmark_model")}
    report = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1)
    monkeypatch.setattr(terminal.out, "width", 200)
    with terminal.out.capture() as shown:
        device_tables.show(report)
    text = shown.get()
    assert "Measured on Xiaomi MI 5s Plus (msm8996, Android 11), ms, in the demo app" in text
    assert "sum of stages" in text
    assert "423.8" in text
    assert (
        "throttled app litert staged fp32, threads 1: round 1: thermal status went from none"
        in text
    )
    assert "thermal status none, battery 27.4 °C, 100 %, current_now -412000" in text
    assert "not run onnxruntime_perf_test" in text
    assert os.environ["FAKE_PHONE"] not in text
