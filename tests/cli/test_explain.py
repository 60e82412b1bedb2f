"""What ``explain`` draws and says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from classkinfy_export.data import synthetic
from classkinfy_export.taxonomy import DISCLAIMER

Classkinfy = Callable[..., Any]


def test_explain_lays_heat_over_the_photo(
    trunk_bundle: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "overlay.png"
    Image.fromarray(synthetic.lesion("nv", 3, height=96, width=128, hair=0.0).image).save(photo)
    ran = classkinfy("explain", trunk_bundle, photo, "--out", out, "--json")
    assert ran.exit_code == 0, ran.stderr
    answer = json.loads(ran.stdout)
    probabilities = answer["prediction"]["probabilities"]
    assert answer["explained"] == max(probabilities, key=probabilities.get)
    with Image.open(out) as overlay:
        assert overlay.size == (128, 96)
    shown = classkinfy("explain", trunk_bundle, photo, "--out", out, "--class", "mel")
    assert "(mel), probability" in shown.stdout
    assert DISCLAIMER in shown.stdout
    before = out.read_bytes()
    classkinfy("explain", trunk_bundle, photo, "--out", out, "--class", "x").refused("'x' is not")
    classkinfy("explain", tmp_path, photo, "--out", out).refused("no bundle", "checkpoint")
    assert out.read_bytes() == before
