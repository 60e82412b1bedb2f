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
    assert "add --arm64" in ran.error()
    ran = classkinfy("bench", bundle, "--arm64", "--baseline", tmp_path / "gone.json")
    assert "gone.json cannot be read: No such file" in ran.error()
    (tmp_path / "other.json").write_text('{"rows": []}')
    ran = classkinfy("bench", bundle, "--arm64", "--baseline", tmp_path / "other.json")
    assert "other.json is no baseline" in ran.error()
    assert ran.exit_code == 2
