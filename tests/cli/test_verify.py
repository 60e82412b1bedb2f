"""``classkinfy verify``: what it compares, counts and refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from altered import perturb
from PIL import Image

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic

ONNX = ("--runtimes", "onnxruntime")

Classkinfy = Callable[..., Any]


def test_verify_without_images_replays_the_golden_vectors(
    bundle: Path, classkinfy: Classkinfy
) -> None:
    ran = classkinfy("verify", bundle, "--json")
    assert ran.exit_code == 0
    report = json.loads(ran.stdout)
    assert report["passed"] is True
    assert report["reference"] == "golden vectors"
    assert report["images"] == len(json.loads((bundle / "golden/golden.json").read_text())["cases"])
    assert report["not_run"] == []
    pairs = {(row["runtime"], row["form"]) for row in report["decisions"]}
    runtimes = ("pytorch", "onnxruntime", "litert", "litert-reference", "tensorflow")
    assert pairs == {(r, f) for r in runtimes for f in ("staged", "fused")}
    evidence = json.loads((bundle / "evidence/golden.json").read_text())
    assert evidence == {"manifest_sha256": Bundle.open(bundle).sha256, **report}


def test_verify_with_images_compares_with_pytorch(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        drawn = synthetic.lesion("nv", number, height=96, width=128).image
        Image.fromarray(drawn).save(tmp_path / "photos" / f"{number}.jpg")
    page = tmp_path / "parity.html"
    photos = ("--images", tmp_path / "photos", "--limit", 2)
    ran = classkinfy("verify", bundle, *photos, *ONNX, "--html", page)
    assert ran.exit_code == 0
    assert "Largest |Δ|, 2 images" in ran.stdout
    assert "parity holds" in ran.stdout
    assert "✓ parity holds" in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") == 2, "the photos"


def test_verify_says_at_once_that_a_page_needs_the_report_extra(
    bundle: Path, classkinfy: Classkinfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    ran = classkinfy("verify", bundle, "--html", tmp_path / "parity.html")
    assert ran.exit_code == 2
    assert "classkinfy-export[report]" in ran.error()


def test_verify_catches_other_weights_behind_a_valid_hash(
    bundle: Path, classkinfy: Classkinfy
) -> None:
    perturb(bundle, "models/onnx/classify.onnx", by=1e-3)
    assert classkinfy("inspect", bundle).exit_code == 0
    ran = classkinfy("verify", bundle)
    assert ran.exit_code == 1
    line = ran.error()
    assert line.startswith("error: parity does not hold: ")
    assert "tensors: onnxruntime fp32 staged, stage classify: probabilities differs by" in line
    assert "(allowed 1e-05), worst on" in line
    # The fused graph is another file, and nothing is said of it.
    assert "fused" not in line
    assert "parity fails" in ran.stdout
    assert json.loads((bundle / "evidence/golden.json").read_text())["passed"] is False
    assert "golden (FAILED)" in classkinfy("inspect", bundle).stdout


def test_verify_counts_flipped_decisions(bundle: Path, classkinfy: Classkinfy) -> None:
    perturb(bundle, "models/onnx/pipeline.onnx", by=1.0)
    ran = classkinfy("verify", bundle, *ONNX, "--json")
    assert ran.exit_code == 1
    report = json.loads(ran.stdout)
    assert report["passed"] is False
    rows = {row["form"]: row for row in report["decisions"]}
    assert rows["staged"]["passed"]
    assert not rows["fused"]["passed"]
    assert rows["fused"]["label_flips"] > 0
    assert "onnxruntime fp32 fused" in ran.error()
    assert "; and " in ran.error(), "the tables have the rest"


def test_verify_says_how_to_get_a_runtime_that_is_not_installed(
    bundle: Path, classkinfy: Classkinfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    import classkinfy_export.runtimes.litert as missing

    monkeypatch.setattr(missing.LitertRuntime, "version", lambda self: None)
    ran = classkinfy("verify", bundle, "--runtimes", "onnxruntime,litert")
    assert ran.exit_code == 1, "a runtime that was asked for did not run"
    assert "litert did not run" in ran.error()
    assert "not run litert" in ran.stdout
    assert "pip install 'classkinfy-export[litert]'" in ran.stdout
    assert "litert fp32 staged" not in ran.stdout
    alone = classkinfy("verify", bundle, "--runtimes", "litert")
    assert alone.exit_code == 2
    assert "no runtime could run" in alone.error()
    assert "pip install 'classkinfy-export[litert]'" in alone.error()
