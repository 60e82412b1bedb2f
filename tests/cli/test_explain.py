"""What ``explain`` draws and says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from classkinfy_export.data import synthetic
from classkinfy_export.data.dataset import open_dataset
from classkinfy_export.taxonomy import DISCLAIMER, Taxonomy

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


def test_the_report_shows_where_it_looked_on_each_class(
    trunk_bundle: Path, lesions: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    ran = classkinfy("report", trunk_bundle, "--out", out, "--data", lesions)
    assert ran.exit_code == 0, ran.stderr
    page = out.read_text()
    with_photos = re.findall(r"<b>(\w+)</b> [^<:]+: (\d) of (\d) told right", page)
    assert [dx for dx, _, _ in with_photos] == list(Taxonomy().classes)
    assert {shown for _, _, shown in with_photos} == {"8"}
    # The same photos, asked one by one.
    records = open_dataset(lesions, Taxonomy()).records
    for dx, right, _ in with_photos[:2]:
        ours = records.index[records["dx"] == dx]
        first = sorted(ours, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:8]
        told = [classkinfy("predict", trunk_bundle, records["path"][i], "--json") for i in first]
        chances = [json.loads(answer.stdout)["probabilities"] for answer in told]
        assert sum(max(p, key=p.get) == dx for p in chances) == int(right)
    classkinfy("report", trunk_bundle, "--out", out, "--part", "test").refused("give --data")
