"""``classkinfy localise``: the operator, the table, and nothing of a sound bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from altered import perturb
from listing import listing

Classkinfy = Callable[..., Any]


def test_localise_names_the_operator_and_writes_what_shows_it(
    bundle: Path, classkinfy: Classkinfy, out: Path
) -> None:
    perturb(bundle, "models/onnx/classify.onnx", by=1e-3)
    ran = classkinfy("localise", bundle, "--runtime", "onnxruntime", "--out", out)
    assert ran.exit_code == 1
    assert "error: onnxruntime departs from PyTorch in stage classify at Gemm " in ran.error()
    assert "FAULT" in ran.stdout
    assert "weights: network.head.0.weight, network.head.0.bias" in ran.stdout
    assert f"reproducer: {out / 'reproduce.py'}" in ran.stdout
    assert listing(out) == ["expected.npz", "inputs.npz", "model.onnx", "reproduce.py"]
    again = classkinfy("localise", bundle, "--runtime", "onnxruntime", "--out", out)
    assert again.exit_code == 2
    assert "already exists" in again.error()


def test_localise_in_json_is_the_whole_table(
    bundle: Path, classkinfy: Classkinfy, out: Path
) -> None:
    perturb(bundle, "models/onnx/classify.onnx", by=1e-3)
    localise = ("localise", bundle, "--runtime", "onnxruntime", "--out", out, "--json")
    ran = classkinfy(*localise, "--stage", "classify")
    assert ran.exit_code == 1
    report = json.loads(ran.stdout)
    (place,) = (
        i for i, row in enumerate(report["rows"]) if row["tensor"] == report["fault"]["tensor"]
    )
    assert all(row["same"] for row in report["rows"][:place])
    assert not report["rows"][place]["same"]
    assert report["fault"]["operator"].startswith("Gemm ")
    # Of another file nothing is wrong, and nothing is written over.
    ran = classkinfy("localise", bundle, "--runtime", "litert", "--out", out, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["fault"] is None


def test_localise_of_a_sound_bundle_says_so_and_writes_nothing(
    trunk_bundle: Path, photo: Path, classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy(
        *("localise", trunk_bundle, "--runtime", "onnxruntime", "--image", photo, "--out", out)
    )
    assert ran.exit_code == 0
    assert "no fault: onnxruntime is within its tolerances of PyTorch on 1 image" in ran.stdout
    assert listing(out.parent) == []
