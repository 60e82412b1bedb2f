"""``classkinfy bench``: what it measures, and baselines that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ONNX = ("--runtimes", "onnxruntime")
BENCH = ("--threads", "1", "--n", "3", "--rounds", "1", "--warmup", "0")

Classkinfy = Callable[..., Any]


def test_bench_measures_what_it_was_asked_to(bundle: Path, classkinfy: Classkinfy) -> None:
    ran = classkinfy("bench", bundle, *ONNX, *BENCH, "--json")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)["host"]
    assert [(r["runtime"], r["form"], r["threads"]) for r in report["rows"]] == [
        ("onnxruntime", "staged", 1),
        ("onnxruntime", "fused", 1),
    ]
    assert all(row["answers"] == 3 and row["p50_ms"] > 0 for row in report["rows"])
    assert not (bundle / "evidence/latency.json").exists(), "it was narrowed to one runtime"


@pytest.mark.parametrize("share", ["2", "nan%", "inf", "-1%", "two"])
def test_a_regression_that_is_no_share_is_refused(
    bundle: Path, classkinfy: Classkinfy, share: str
) -> None:
    ran = classkinfy("bench", bundle, "--arm64", "--max-regression", share)
    assert ran.exit_code == 2
    assert f"--max-regression '{share}' is no share: as 2% or 0.02" in ran.error()


def test_a_baseline_that_is_none_is_refused(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    ran = classkinfy("bench", bundle, "--baseline", tmp_path / "gone.json")
    assert "--baseline: without --arm64 there is nothing to do" in ran.error()
    ran = classkinfy("bench", bundle, "--arm64", "--baseline", tmp_path / "gone.json")
    assert "gone.json cannot be read: No such file" in ran.error()
    (tmp_path / "other.json").write_text('{"rows": []}')
    ran = classkinfy("bench", bundle, "--arm64", "--baseline", tmp_path / "other.json")
    assert "other.json is no baseline" in ran.error()
    assert ran.exit_code == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--no-host",), "--no-host leaves nothing to do: add --operators or --arm64"),
        (("--flame", "x.svg"), "--flame: without --operators there is nothing to do"),
        (("--operators", "--flame", "gone/x.svg"), "--flame gone/x.svg: no file can be written"),
        (("--no-host", "--arm64", "--against", "."), "--against: without --host"),
        (("--cores", "4"), "--cores and --cool-to: without --adb there is nothing to do"),
        (("--adb", "--tool", "litert"), "--tool 'litert' is no NAME=PATH"),
        (("--runtimes", "arm64-litert"), "arm64-litert is emulated: its instructions are counted"),
        (("--threads", "0"), "--threads '0': at least 1"),
        (("--precision", "int4"), "--precision 'int4' is unknown"),
        (("--no-host", "--operators", "--runtimes", "pytorch"), "pytorch"),
    ],
)
def test_options_that_make_no_sense_are_told_of_before_anything_is_measured(
    bundle: Path, classkinfy: Classkinfy, options: tuple[str, ...], told: str
) -> None:
    ran = classkinfy("bench", bundle, *options)
    assert ran.exit_code == 2
    assert told in ran.error()


def test_a_photo_that_is_none_is_told_of_by_its_name(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    ran = classkinfy("bench", bundle, "--photo", tmp_path / "notes.txt")
    assert ran.exit_code == 2
    assert "notes.txt" in ran.error()


def test_another_bundle_is_compared_and_no_evidence_is_kept_of_it(
    bundle: Path, classkinfy: Classkinfy
) -> None:
    evidence = bundle / "evidence/latency.json"
    before = evidence.read_bytes() if evidence.exists() else None
    ran = classkinfy("bench", bundle, *ONNX, *BENCH, "--against", bundle, "--json")
    assert ran.exit_code == 0, ran.error()
    against = json.loads(ran.stdout)["host"]["against"]
    assert [row["other"]["form"] for row in against["rows"]] == ["staged", "fused"]
    assert all(row["ratio"]["low"] == row["ratio"]["high"] for row in against["rows"])
    text = classkinfy("bench", bundle, *ONNX, *BENCH, "--against", bundle).stdout
    assert "no difference to be told" in text
    assert "one round: noise between rounds cannot be seen" in text
    assert before == (evidence.read_bytes() if evidence.exists() else None)


def test_operators_are_profiled_and_drawn(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    ran = classkinfy(
        "bench", bundle, "--no-host", "--operators", *ONNX, "--flame", tmp_path / "f", "--json"
    )
    assert ran.exit_code == 0, ran.error()
    (profile,) = json.loads(ran.stdout)["operators"]
    assert [runtime["runtime"] for runtime in profile["runtimes"]] == ["onnxruntime"]
    assert (tmp_path / "f.svg").read_text().startswith("<")
