"""What the runtimes' own tools print is what is reported, and no more."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_phone import ARM32, TRANSCRIPTS, Phone

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import (
    ClasskinfyError,
)
from classkinfy_export.latency.device.bench import bench_on_device
from classkinfy_export.latency.device.benchmark_model import BenchmarkModel
from classkinfy_export.latency.device.perf_test import PerfTest
from classkinfy_export.latency.device.report import DeviceLatency, DeviceReport


def stage(row: DeviceLatency, name: str) -> Any:
    return next(found for found in row.stages if found.stage == name)


def test_a_measured_run_has_the_figures_of_the_transcript(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    calls: list[tuple[str, int, int]] = []
    report = bench_on_device(
        bundle,
        tools={"litert": tool("benchmark_model")},
        threads=(1,),
        n=50,
        rounds=2,
        progress=lambda *call: calls.append(call),
    )
    (row,) = report.rows
    assert (row.source, row.runtime, row.form, row.threads) == (
        "benchmark_model",
        "litert",
        "staged",
        1,
    )
    assert row.precision == "fp32"
    assert row.route == "nv", "the grader with the larger file"
    assert [found.stage for found in row.stages] == ["prepare", "classify", "grade_nv"]
    classify = stage(row, "classify")
    assert classify.answers == 50, "25 in each of two rounds"
    assert (classify.load_ms, classify.first_ms) == (92.318, 187.533)
    assert (classify.mean_ms, classify.p50_ms, classify.p95_ms) == (145.528, 141.253, 187.533)
    assert (classify.p90_ms, classify.p99_ms) == (None, None), "the tool gives neither"
    assert classify.added_mib == 73.4102
    assert classify.pss_mib == 83210 / 1024
    assert row.stages_p50_ms == dict.fromkeys(("prepare", "classify", "grade_nv"), 141.253)
    assert row.sum_p50_ms == pytest.approx(3 * 141.253)
    assert row.sum_mean_ms == pytest.approx(3 * 145.528)
    assert (row.p50_ms, row.cold_start_ms, row.load_ms, row.peak_mib) == (None,) * 4
    sizes = {path: entry.size_bytes for path, entry in bundle.manifest.files.items()}
    litert = sum(size for path, size in sizes.items() if path.endswith(".tflite"))
    assert row.model_mib == litert / 2**20
    assert (row.spread, row.noisy, row.throttled, row.remarks) == (1.0, False, False, ())
    assert phone.runs() == ["prepare", "classify", "grade_nv", "grade_nv", "classify", "prepare"]
    assert calls[0] == ("benchmark_model prepare", 0, 6)
    assert calls[-1] == ("memory", 6, 6)
    assert report.not_run == {
        "app": "org.classkinfy.demo is not installed on the phone",
        "onnxruntime_perf_test": "no path of it was given: --tool onnxruntime=PATH",
    }
    assert phone.left() == []
    assert report.left_behind is None
    assert DeviceReport.model_validate_json(report.model_dump_json()) == report


def test_a_tool_is_asked_for_one_signature_pinned_and_watched_apart(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    bench_on_device(
        bundle, tools={"litert": tool("benchmark_model")}, threads=(2,), n=30, warmup=4, rounds=1
    )
    lines = [line for line in phone.commands() if "signature_to_run_for=classify" in line]
    timed, watched = lines
    folder = f"/data/local/tmp/classkinfy-{bundle.sha256[:12]}"
    assert f"taskset c {folder}/litert/benchmark_model " in timed
    assert f"--graph={folder}/bundle/models/stages.tflite " in timed
    for flag in ("num_threads=2", "use_xnnpack=true", "num_runs=30", "warmup_runs=4", "min_secs=0"):
        assert f"--{flag} " in timed
    assert "--report_peak_memory_footprint=false" in timed, "watching takes time"
    assert "--report_peak_memory_footprint=true" in watched
    assert "smaps_rollup" in watched


def test_percentiles_are_numpys_over_the_answers_after_the_warmup(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    answers = [0.5, 0.4, 0.010, 0.011, 0.030, 0.012]
    phone.write(answers_s=answers)
    report = bench_on_device(
        bundle,
        tools={"onnxruntime": tool("onnxruntime_perf_test")},
        threads=(1,),
        n=8,
        warmup=2,
        rounds=2,
    )
    (row,) = report.rows
    counted = [10.0, 11.0, 30.0, 12.0]
    found = stage(row, "prepare")
    assert found.answers == 8
    assert found.p50_ms == pytest.approx(statistics.median(counted * 2))
    for name, percent in (("p90_ms", 90), ("p95_ms", 95), ("p99_ms", 99)):
        assert getattr(found, name) == pytest.approx(np.percentile(counted * 2, percent))
    assert found.mean_ms == pytest.approx(statistics.mean(counted))
    assert (found.load_ms, found.first_ms) == (217.932, 196.0)
    assert found.peak_mib == 271122432 / 2**20
    assert found.added_mib is None, "the tool does not tell it"
    assert row.sum_p50_ms == pytest.approx(3 * found.p50_ms)
    (timed, *_) = [line for line in phone.commands() if "perf_test -e" in line]
    assert "-e cpu -I -S 1 -m times -r 6 -x 1 -y 1 -Z -s " in timed
    assert "ORT_DISABLE_TELEMETRY=1 taskset c " in timed


def test_without_single_answers_the_printed_percentiles_count(tool: Callable[..., Path]) -> None:
    text = (TRANSCRIPTS / "perf_test_vivo_x300.txt").read_text()
    sample = PerfTest(tool("onnxruntime_perf_test")).read(text, warmup=2)
    assert sample.answers == 5
    assert sample.mean_ms == 98.961997
    printed = {50: 99.5086, 90: 101.519, 95: 101.519, 99: 101.519}
    assert sample.percentiles_ms == pytest.approx(printed)


@pytest.mark.parametrize(
    ("name", "answers", "mean", "added"),
    [
        ("benchmark_model_averages.txt", 50, 33.2094, 12.8672),
        ("benchmark_model_single_warmup.txt", 50, 2950.34, 46.0859),
    ],
)
def test_a_tool_that_gives_averages_alone_has_no_percentiles(
    tool: Callable[..., Path], name: str, answers: int, mean: float, added: float
) -> None:
    text = (TRANSCRIPTS / name).read_text()
    sample = BenchmarkModel(tool("benchmark_model")).read(text, warmup=1)
    assert (sample.answers, sample.percentiles_ms, sample.latencies_ms) == (answers, {}, ())
    assert sample.mean_ms == pytest.approx(mean)
    assert sample.added_mib == added


def test_averages_alone_are_summed_and_no_median_is_invented(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(benchmark_model=["benchmark_model_averages.txt"])
    tools = {"litert": tool("benchmark_model")}
    (row,) = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1).rows
    assert row.stages_p50_ms == dict.fromkeys(("prepare", "classify", "grade_nv"))
    assert row.sum_p50_ms is None
    assert row.sum_mean_ms == pytest.approx(3 * 33.2094)


def test_answers_that_are_all_alike_have_that_median(tool: Callable[..., Path]) -> None:
    # As StatWithPercentiles prints them, and the peak as BenchmarkLoggingListener does.
    text = (
        "INFO: count=2 curr=97(all same)\nINFO: count=3 curr=98(all same)\n"
        "INFO: Inference timings in us: Init: 1000, First inference: 97, Warmup (avg): 97, "
        "Inference (avg): 98\n"
        "INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383\n"
    )
    sample = BenchmarkModel(tool("benchmark_model")).read(text, warmup=1)
    assert (sample.answers, sample.mean_ms, sample.percentiles_ms) == (
        3,
        0.098,
        {50: 0.098, 95: 0.098},
    )
    assert sample.peak_mib == 93.2383


@pytest.mark.parametrize("kind", [BenchmarkModel, PerfTest])
def test_output_of_another_program_is_an_error(
    kind: type[BenchmarkModel | PerfTest], tool: Callable[..., Path]
) -> None:
    with pytest.raises(ClasskinfyError, match=r"printed no '.*'"):
        kind(tool("any")).read("count=1 curr=2\nhello\n", warmup=1)


def test_a_tool_that_fails_is_an_error_with_its_own_reason(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(benchmark_model=["not_executable.txt"], exit=126)
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(ClasskinfyError, match=r"failed on the phone with 126: .*64-bit ELF file"):
        bench_on_device(bundle, tools=tools, threads=(1,))
    assert phone.left() == []


def test_the_first_line_that_names_an_error_is_the_reason(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As benchmark_tflite_model.cc and benchmark_main.cc print it.
    text = (
        "INFO: STARTING!\n"
        "ERROR: Signature not specified or incorrect. Pass one of the following to the flag\n"
        "ERROR:  #> Signature key: prepare\nERROR: Benchmarking failed.\n"
    )
    transcripts = phone.home / "transcripts"
    shutil.copytree(TRANSCRIPTS, transcripts)
    (transcripts / "signature.txt").write_text(text)
    phone.write(benchmark_model=[str(transcripts / "signature.txt")], exit=1)
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(ClasskinfyError, match="with 1: ERROR: Signature not specified"):
        bench_on_device(bundle, tools=tools, threads=(1,))


def test_a_tool_for_another_machine_is_refused_before_anything_is_copied(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(abilist="armeabi-v7a,armeabi")
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(
        ClasskinfyError,
        match=r"built for arm64-v8a, and Xiaomi MI 5s Plus runs armeabi-v7a, armeabi: build it for",
    ):
        bench_on_device(bundle, tools=tools)
    assert not any(line.startswith("push") for line in phone.commands())
    tools = {"litert": tool("benchmark_model", ARM32)}
    report = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1)
    assert report.phone.abis == ("armeabi-v7a", "armeabi")


def test_what_is_no_tool_is_refused(bundle: Bundle, phone: Phone, tmp_path: Path) -> None:
    script = tmp_path / "benchmark_model"
    script.write_text("#!/bin/sh\n")
    for tools, said in (
        ({"litert": script}, "is no program that Android runs"),
        ({"litert": tmp_path / "none"}, "none does not exist"),
        ({"ncnn": script}, "there is no tool of 'ncnn': litert, onnxruntime"),
    ):
        with pytest.raises(ClasskinfyError, match=said):
            bench_on_device(bundle, tools=tools)


def test_a_folder_brings_its_libraries(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "ort"
    folder.mkdir()
    tool("onnxruntime_perf_test").rename(folder / "onnxruntime_perf_test")
    (folder / "libonnxruntime.so").write_bytes(b"library")
    (folder / "notes.txt").write_text("no")
    assert set(PerfTest(folder).files) == {"onnxruntime_perf_test", "libonnxruntime.so"}
    tools = {"onnxruntime": folder}
    (row,) = bench_on_device(bundle, tools=tools, threads=(1,), rounds=1).rows
    assert row.source == "onnxruntime_perf_test"
