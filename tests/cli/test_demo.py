"""``classkinfy demo``: its findings and its gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from altered import perturb

from classkinfy_export import files
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.jobs import demo
from classkinfy_export.latency.host import bench
from classkinfy_export.parity.verify import verify
from classkinfy_export.taxonomy import DISCLAIMER

Classkinfy = Callable[..., Any]


@pytest.mark.parametrize("passed", [True, False])
def test_demo_prints_its_findings_and_fails_with_the_parity_gate(
    passed: bool,
    bundle: Path,
    classkinfy: Classkinfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The demo itself takes minutes and has tests of its own; here is its verb."""
    if not passed:
        perturb(bundle, "models/onnx/pipeline.onnx", by=1.0)
    opened = Bundle.open(bundle)
    figures = {"n": 1, "accuracy": 1.0, "balanced_accuracy": 1.0, "auroc": None}
    result = demo.DemoResult(
        bundle,
        tmp_path / "report.html",
        {
            "data": {"name": "synthetic"},
            "screen": {"test": {**figures, "masks": 0, "mean_iou": None}},
            "classifier": {"test": figures},
            "graders": {},
        },
        verify(opened, names=["onnxruntime"]),
        bench(opened, names=["onnxruntime"], threads=(1,), n=3, warmup=0, rounds=1),
    )
    monkeypatch.setattr(demo, "demo", lambda *args, **kwargs: result)
    ran = classkinfy("demo", "--out", tmp_path, "--json")
    assert ran.exit_code == (0 if passed else 1)
    assert ran.stdout == files.to_json(result.to_json())
    text = classkinfy("demo", "--out", tmp_path)
    assert text.exit_code == ran.exit_code
    assert f"bundle: {bundle}" in text.stdout
    assert DISCLAIMER in text.stdout
    if not passed:
        told = "parity does not hold: tensors: onnxruntime fp32 fused, stage pipeline: "
        assert told in ran.error()


def test_without_the_shipped_model_the_demo_says_how_to_train_one(
    monkeypatch: pytest.MonkeyPatch, classkinfy: Classkinfy, out: Path
) -> None:
    monkeypatch.setattr(demo, "SHIPPED", out / "nothing")
    classkinfy("demo", "--out", out).refused("no finished training run", "--train")
    assert not out.exists()
