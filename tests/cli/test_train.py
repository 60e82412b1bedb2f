"""A run by the command line, from its data to the bundle and the figures that go with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.taxonomy import DISCLAIMER

QUICK = ("--set", "formats=[pytorch]", "--set", "golden=false")
TINY = (
    *("--set", "working_size={height: 96, width: 128}"),
    *("--set", "classifier.network={architecture: test_efficientnet, weights: none}"),
    *("--set", "classifier.network.input_size=64"),
    *("--set", "classifier.fit.epochs=1"),
    *("--set", "graders.fit.epochs=1"),
    *("--set", "taxonomy.graded=[mel]"),
)


Classkinfy = Callable[..., Any]


def test_a_run_is_trained_exported_and_its_figures_go_with_the_bundle(
    lesions: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "bundle"
    ran = classkinfy("train", "train/smoke.yaml", "--data", lesions, "--out", run, *TINY, "--json")
    assert ran.exit_code == 0, ran.stderr
    metrics = json.loads(ran.stdout)
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["images"] == 63
    assert set(metrics["graders"]) == {"mel"}

    # A finished run is read, not trained again.
    again = classkinfy("train", "train/smoke.yaml", "--data", lesions, "--out", run, *TINY)
    assert again.exit_code == 0
    assert f"run: {run}" in again.stdout
    assert DISCLAIMER in again.stdout

    square = classkinfy("export", run, *QUICK, "--capture", "100x100", "--out", out)
    square.refused("100x100 has not the shape of the 96x128", "a multiple of it")
    bald = ("--set", "hair_removal=false")
    wrong = classkinfy("export", run, *QUICK, *bald, "--out", out)
    wrong.refused("hair_removal is False, the checkpoint was trained with True")
    larger = ("--capture", "120x160", "--layout", "nv21")
    made = classkinfy("export", run, *QUICK, *larger, "--out", out, "--json")
    assert made.exit_code == 0, made.stderr
    opened = Bundle.open(out)
    assert opened.evidence()["accuracy"]["data"] == metrics["data"]
    assert opened.manifest.stage("prepare").inputs[0].shape == (1, 180, 160)
    assert opened.manifest.stage("classify").inputs[0].shape == (1, 96, 128, 3)
    assert [spec.diagnosis for spec in opened.manifest.stages if spec.diagnosis] == ["mel"]

    # Evaluated on its test part, the run has the figures that training measured.
    judged = classkinfy("evaluate", run, "--data", lesions, "--json")
    assert judged.exit_code == 0, judged.stderr
    figures = json.loads(judged.stdout)["figures"]
    test = metrics["classifier"]["test"]
    for name in ("accuracy", "balanced_accuracy", "ece"):
        assert figures[name][0] == pytest.approx(test[name], abs=1e-5), name
    shown = classkinfy("evaluate", run, "--data", lesions, "--part", "val")
    assert f"{metrics['data']['name']}, val: " in shown.stdout
    assert DISCLAIMER in shown.stdout
    whole = classkinfy("evaluate", out, "--data", lesions, "--runtime", "pytorch")
    whole.refused("cannot be evaluated whole", "--split")
