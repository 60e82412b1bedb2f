"""A flame plot is as wide as the time that it shows."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from classkinfy_export.latency.operators.report import (
    OperatorTime,
    ProfileReport,
    RuntimeProfile,
    StageProfile,
    summed,
)
from classkinfy_export.reporting.flame import draw, render

SVG = "{http://www.w3.org/2000/svg}"


def operator(name: str, module: str | None, ms: float, kernel: str | None = None) -> OperatorTime:
    return OperatorTime(
        operator=name,
        node="n",
        module=module,
        kernel=kernel,
        dtype="float32",
        shape=(1,),
        ms=ms,
        share=ms / 10.0,
        hint=None,
    )


def stage(name: str, *rows: OperatorTime) -> StageProfile:
    total = sum(row.ms for row in rows)
    return StageProfile(
        stage=name,
        wall_ms=total + 1.0,
        profiled_ms=total + 2.0,
        operators_ms=total,
        noisy=False,
        operators=rows,
        coverage=None,
    )


@pytest.fixture
def report() -> ProfileReport:
    stages = (
        stage("prepare", operator("Max", "", 1.0), operator("Pad", None, 1.0)),
        stage(
            "classify",
            operator("Conv", "backbone.stem", 2.0),
            operator("Conv", "backbone.blocks.0", 4.0, "Conv <NHWC> & more"),
            operator("Conv", "backbone.stem", 1.9999),
            operator("Softmax", "", 0.0001),
        ),
    )
    by_operator, by_module = summed(stages)
    ours = RuntimeProfile(
        runtime="onnxruntime",
        version="1",
        form="staged",
        stages=stages,
        by_operator=by_operator,
        by_module=by_module,
    )
    return ProfileReport(
        bundle="b & <c>",
        manifest_sha256="0" * 64,
        precision="fp32",
        image="given",
        threads=1,
        warmup=0,
        n=1,
        runtimes=(ours,),
        not_run={},
        conditions={"cpu": "c"},
    )


def boxes(svg: bytes) -> dict[str, tuple[float, float, float]]:
    """Left edge, top and width of every box, by what it says when pointed at."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None
        assert title.text is not None
        assert box is not None
        place = tuple(float(box.get(key, "")) for key in ("x", "y", "width"))
        found[title.text] = (place[0], place[1], place[2])
    return found


def test_a_box_is_as_wide_as_its_operators_took(report: ProfileReport) -> None:
    found = boxes(render(report))
    whole = found["all stages: 10.000 ms, 100.0%"][2]
    wanted = {
        "prepare: 2.000 ms, 20.0%": 0.2,
        "prepare, Max: 1.000 ms, 10.0%": 0.1,
        "prepare: ?: 1.000 ms, 10.0%": 0.1,
        "classify: 8.000 ms, 80.0%": 0.8,
        "classify: backbone: 8.000 ms, 80.0%": 0.8,
        # What the same module runs again, later, is in the same box.
        "classify: backbone.stem: 4.000 ms, 40.0%": 0.4,
        "classify: backbone.stem, Conv: 4.000 ms, 40.0%": 0.4,
        "classify: backbone.blocks.0, Conv (Conv <NHWC> & more): 4.000 ms, 40.0%": 0.4,
    }
    for told, share in wanted.items():
        assert found[told][2] == pytest.approx(share * whole, abs=0.05), told
    assert not any("Softmax" in told for told in found), "too thin to be seen"


def test_what_a_box_holds_is_below_it_and_no_wider(report: ProfileReport) -> None:
    found = boxes(render(report))
    outer = found["classify: backbone: 8.000 ms, 80.0%"]
    inner = [box for told, box in found.items() if told.startswith("classify: backbone.")]
    assert len(inner) == 5
    for left, top, width in inner:
        assert top > outer[1]
        assert outer[0] - 0.05 <= left
        assert left + width <= outer[0] + outer[2] + 0.05


def test_boxes_of_a_row_are_side_by_side(report: ProfileReport) -> None:
    rows: dict[float, list[tuple[float, float]]] = {}
    for left, top, width in boxes(render(report)).values():
        rows.setdefault(top, []).append((left, width))
    assert len(rows) == 6
    for row in rows.values():
        for (left, width), (following, _) in itertools.pairwise(sorted(row)):
            assert left + width == pytest.approx(following, abs=0.05)


def test_it_is_one_file_that_loads_nothing(report: ProfileReport, tmp_path: Path) -> None:
    draw(report, tmp_path / "flame.svg")
    svg = (tmp_path / "flame.svg").read_bytes()
    assert svg == render(report)
    assert b"<script" not in svg
    assert re.findall(rb'(?:href|src)="|url\(', svg) == []
    text = "".join(ElementTree.fromstring(svg).itertext())
    assert "Time of every operator of b & <c>" in text
    assert "operators 10.00 ms, answer 12.00 ms" in text
