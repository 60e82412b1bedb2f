"""``classkinfy predict``: answers in JSON and for a person, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from listing import listing
from PIL import Image

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE, Taxonomy

COMMAND = Path(sys.executable).with_name("classkinfy")
CLASSES = Taxonomy().classes

Classkinfy = Callable[..., Any]


@pytest.mark.parametrize("form", ["staged", "fused"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "pytorch"])
def test_predict_answers_in_json_with_both_disclaimers(
    runtime: str, form: str, trunk_bundle: Path, photo: Path, classkinfy: Classkinfy
) -> None:
    ran = classkinfy("predict", trunk_bundle, photo, "--json", "--runtime", runtime, "--form", form)
    assert ran.exit_code == 0
    answer = json.loads(ran.stdout)
    assert answer["disclaimer"] == DISCLAIMER
    assert answer["severity_notice"] == PROXY_NOTICE
    assert answer["accepted"] is True
    assert answer["reasons"] == ["underexposed"]  # the skin drawn is dark, and so advised
    probabilities = answer["probabilities"]
    assert list(probabilities) == list(CLASSES)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer["diagnosis"] == max(probabilities, key=probabilities.__getitem__)
    assert list(answer["preliminary"]) == list(CLASSES)
    assert answer["confidence"] == probabilities[answer["diagnosis"]]
    assert answer["bundle"] == Bundle.open(trunk_bundle).sha256
    assert answer["runtime"].endswith(f"fp32 {form}")


def test_predict_tells_a_person_what_it_is_not(
    trunk_bundle: Path, photo: Path, classkinfy: Classkinfy
) -> None:
    answer = json.loads(classkinfy("predict", trunk_bundle, photo, "--json").stdout)
    ran = classkinfy("predict", trunk_bundle, photo)
    assert ran.exit_code == 0
    assert DISCLAIMER in ran.stdout
    assert Taxonomy().title(answer["diagnosis"]) in ran.stdout
    assert (PROXY_NOTICE in ran.stdout) == (answer["severity"] is not None)
    assert (f"severity: {answer['severity']}" in ran.stdout) == (answer["severity"] is not None)


@pytest.mark.parametrize("form", ["staged", "fused"])
def test_a_photo_full_of_hair_is_refused_with_the_reason(
    form: str, trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    path = tmp_path / "hairy.png"
    drawn = synthetic.lesion("bcc", seed=4, height=450, width=600, hair=1.0)
    Image.fromarray(drawn.image).resize((128, 96), Image.Resampling.BILINEAR).save(path)
    predict = ("predict", trunk_bundle, path, "--form", form)
    answer = json.loads(classkinfy(*predict, "--json").stdout)
    assert answer["quality"]["hair_coverage"] > 0.15
    assert not answer["accepted"]
    assert answer["reasons"] == ["hair"]
    assert answer["diagnosis"] is None
    assert answer["severity"] is None
    ran = classkinfy(*predict)
    # The work ran, and refusing is its answer.
    assert ran.exit_code == 0
    assert "refused: hair" in ran.stdout
    assert DISCLAIMER in ran.stdout


def test_a_dark_photo_gets_advice_and_an_answer(
    trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    path = tmp_path / "dark.png"
    Image.new("RGB", (128, 96), (9, 7, 5)).save(path)
    answer = json.loads(classkinfy("predict", trunk_bundle, path, "--json").stdout)
    assert answer["accepted"]
    assert answer["reasons"] == ["underexposed"]
    assert "advice: underexposed" in classkinfy("predict", trunk_bundle, path).stdout


def test_predict_writes_nothing_and_leaves_no_telemetry(
    trunk_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    before = listing(trunk_bundle)
    for form in ("staged", "fused"):
        predict = [COMMAND, "predict", trunk_bundle, photo, "--form", form, "--json"]
        ran = subprocess.run(
            predict, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert json.loads(ran.stdout)["disclaimer"] == DISCLAIMER
        assert ran.stderr == ""
    assert listing(tmp_path) == []
    assert listing(trunk_bundle) == before
