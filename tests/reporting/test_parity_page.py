"""The parity page: every failure is on it, its cell is marked, and it loads and trusts nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from tiny_bundle import make_bundle

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.parity.compare import Difference
from classkinfy_export.parity.decide import Answer
from classkinfy_export.parity.error_map import ErrorMap
from classkinfy_export.parity.observe import Key, Observation, Observations
from classkinfy_export.parity.report import NotRun, ParityReport
from classkinfy_export.parity.verify import gate
from classkinfy_export.reporting.heatmap import columns, heatmap
from classkinfy_export.reporting.parity_page import render
from classkinfy_export.taxonomy import DISCLAIMER
from classkinfy_export.tolerances import ParityRecipe

HOSTILE = "<script>alert('x')</script>"
VERMILION, PALE, WHITE = (0xD5, 0x5E, 0x00), (0xE6, 0xED, 0xF4), (255, 255, 255)
STAGED = Key("onnxruntime", "fp32", "staged")
ANSWER = Answer(
    probabilities=(0.7, 0.3, 0, 0, 0, 0, 0), diagnosis=0, accepted=1, reasons=0, severity=1
)
FLIPPED = ANSWER.model_copy(update={"probabilities": (0.3, 0.7, 0, 0, 0, 0, 0), "diagnosis": 1})


def off(by: float, index: tuple[int, ...] = (0, 2)) -> Difference:
    return Difference(largest=by, index=index, expected=0.25, actual=0.25 + by, elements=7)


def observed(
    bundle: Bundle, *images: tuple[str, str, dict[str, Difference], Answer], key: Key = STAGED
) -> ParityReport:
    """A report of images, each a name, an id, differences by tensor, and an answer."""
    seen = [
        (name, Observation(image=digest, differences=found, expected=ANSWER, actual=answer))
        for name, digest, found, answer in images
    ]
    every = Observations(
        images=len(seen),
        seen={key: seen},
        reference="pytorch",
        beside={key: "pytorch"},
        conditions={"threads": "1"},
    )
    return gate(bundle, every, ParityRecipe(), all_must_run=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def report(bundle: Bundle) -> ParityReport:
    """Three images: one is equal, of one two tensors do not hold, one has another decision."""
    broken = {"clean": off(3.0, (0, 5, 6, 1)), "probabilities": off(2e-3), "severity_mel": off(0.0)}
    near = {"clean": off(0.0), "probabilities": off(9e-6)}
    same = {"clean": off(0.0), "probabilities": off(0.0)}
    found = observed(
        bundle,
        ("equal", "a", same, ANSWER),
        (HOSTILE, "b", broken, ANSWER),
        ("near", "c", near, FLIPPED),
    )
    missing = NotRun(runtime="litert", reason=f"not installed {HOSTILE}")
    return found.model_copy(update={"not_run": (missing,), "not_covered": ("x: grade_nv",)})


class Page(HTMLParser):
    """Tags, their attributes, and rows of text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.rows and data.strip():
            self.rows[-1] += f"{' '.join(data.split())} "

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def svg_of(source: str) -> str:
    return base64.b64decode(source.split(",", 1)[1]).decode()


def cells(errors: ErrorMap) -> np.ndarray:
    """The colours of a heat-map, as they are in the SVG: uint8 [rows, columns, 3]."""
    svg = heatmap(errors).svg.decode()
    (png,) = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return np.asarray(image.convert("RGB"))


def test_the_heat_map_marks_the_cells_that_fail_and_no_others(report: ParityReport) -> None:
    (errors,) = report.maps
    assert [row.tensor for row in errors.tensors] == ["clean", "probabilities", "severity_mel"]
    drawn = cells(errors)
    assert drawn.shape == (3, 3, 3)
    marked = {(int(r), int(c)) for r, c in np.argwhere((drawn == VERMILION).all(axis=-1))}
    assert marked == {(0, 0), (1, 0)}, "the broken image is the leftmost"
    assert (drawn[0, 1:] == PALE).all(), "equal"
    assert tuple(drawn[2, 0]) == PALE
    assert (drawn[2, 1:] == WHITE).all(), "this grader did not run there"
    assert tuple(drawn[1, 2]) == PALE
    near = drawn[1, 1].astype(int)
    assert near[2] > near[0] + 60, "nine tenths of what is allowed is blue"
    svg = heatmap(errors).svg.decode()
    # One hatched outline a failing run of cells, and one in the legend: not colour alone.
    assert len(re.findall(r"fill: url\(#h", svg)) == 3


def test_a_cell_is_the_darker_the_nearer_it_is_to_its_tolerance(bundle: Bundle) -> None:
    images = [
        (f"i{n}", f"i{n}", {"probabilities": off(10.0 ** -(n + 5.5))}, ANSWER) for n in range(4)
    ]
    (errors,) = observed(bundle, *images).maps
    luminance = cells(errors)[0].astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(luminance) > 10).all()


def test_of_many_images_the_worst_and_evenly_spaced_others_are_drawn(bundle: Bundle) -> None:
    sizes = np.random.default_rng(0).permutation(1000)
    images = [
        (f"i{n}", f"i{n}", {"probabilities": off(float(size) * 2e-8)}, ANSWER)
        for n, size in enumerate(sizes)
    ]
    (errors,) = observed(bundle, *images).maps
    shown, worst = columns(errors)
    assert (len(shown), len(set(shown)), worst) == (200, 200, 100)
    assert [int(sizes[i]) for i in shown[:100]] == list(range(999, 899, -1))
    others = [int(sizes[i]) for i in shown[100:]]
    assert (others[0], others[-1]) == (899, 0)
    assert {a - b for a, b in itertools.pairwise(others)} <= {9, 10}
    plot = heatmap(errors)
    assert "200 of 1000 images" in plot.alt
    assert cells(errors).shape == (1, 200, 3)


def test_every_failure_is_on_the_page_with_all_that_finds_it(
    bundle: Bundle, report: ParityReport
) -> None:
    page = Page(render(report, bundle))
    for told in (
        f"preprocessing onnxruntime fp32 staged prepare clean 3 exact 1 of 3 {HOSTILE} "
        "0, 5, 6, 1 0.25 3.25 ",
        "tensors onnxruntime fp32 staged classify probabilities 0.002 1e-05 1 of 3 "
        f"{HOSTILE} 0, 2 0.25 0.252 ",
    ):
        assert any(row.startswith(told) for row in page.rows), page.rows
    for line in report.failures():
        assert line in page.text, "flips and runtimes too"
    assert "✗ parity FAILS" in page.text
    assert "flips on near" in page.text
    assert "litert: not installed" in page.text
    assert "x: grade_nv" in page.text
    assert DISCLAIMER in page.text
    badges = [a["aria-label"] for tag, a in page.tags if tag == "span" and "aria-label" in a]
    assert badges == [
        *("1 of 1 tensors fail", "1 of 1 tensors fail", "1 tensors hold"),
        "1 of 3 decisions flip",
    ]


def test_a_page_of_what_holds_says_so(bundle: Bundle) -> None:
    same = {"clean": off(0.0), "probabilities": off(1e-7)}
    held = observed(bundle, ("one", "a", same, ANSWER))
    page = Page(render(held, bundle))
    assert held.passed
    assert "✓ parity holds" in page.text
    assert "FAIL" not in page.text
    assert "✗" not in page.text.replace("✗ with the number that do not", "")
    assert not any(attrs.get("id") == "failures" for _, attrs in page.tags)


def test_the_page_loads_nothing_runs_nothing_and_trusts_no_name(
    bundle: Bundle, report: ParityReport
) -> None:
    html = render(report, bundle)
    assert html.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?://|url\(|@import|<script|<link|<iframe", html)
    page = Page(html)
    assert HOSTILE in page.text
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert images
    for image in images:
        assert str(image["src"]).startswith("data:image/")
        assert image["alt"]
        if "svg" in str(image["src"]).split(",")[0]:
            svg = svg_of(str(image["src"]))
            links = re.findall(r'(\S+)="https?://', svg)
            assert {name.split(":")[0] for name in links} <= {"xmlns"}
            assert "<script" not in svg
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in str(policy)


def test_the_worst_photos_are_shown_and_are_the_ones_that_were_seen(
    bundle: Bundle, tmp_path: Path
) -> None:
    colours = {"red": (220, 30, 30), "green": (30, 200, 30)}
    images = []
    paths: list[Path] = []
    for number, (name, colour) in enumerate(colours.items()):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (128, 96), colour).save(path)
        paths.append(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        images.append((name, digest, {"clean": off(float(1 - number))}, ANSWER))
    (tmp_path / "other").mkdir()
    stale = tmp_path / "other" / "red.png"
    Image.new("RGB", (128, 96), (0, 0, 0)).save(stale)
    shown = Page(render(observed(bundle, *images), bundle, [stale, *paths]))
    photos = [a for t, a in shown.tags if t == "img" and "jpeg" in str(a["src"]).split(",")[0]]
    assert [photo["alt"] for photo in photos] == ["red"], "green is equal everywhere"
    data = base64.b64decode(str(photos[0]["src"]).split(",", 1)[1])
    with Image.open(io.BytesIO(data)) as picture:
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0)
    assert np.abs(seen - colours["red"]).max() < 4
    gone = Page(render(observed(bundle, *images), bundle, paths[1:]))
    assert "The photo is not at hand." in gone.text


def test_maps_are_not_in_the_report_that_is_written(report: ParityReport) -> None:
    assert report.maps
    assert "maps" not in report.model_dump(mode="json")
    assert ParityReport.model_validate(report.model_dump()).maps == ()


def test_a_report_of_nothing_is_a_page_that_says_why(bundle: Bundle) -> None:
    found = Observations(reference="pytorch", not_run={"litert": "it is not installed"})
    report = gate(bundle, found, ParityRecipe(), all_must_run=True)
    page = Page(render(report, bundle))
    assert "✗ parity FAILS" in page.text
    assert "litert: it is not installed" in page.text


def test_an_exact_tensor_is_equal_or_broken(bundle: Bundle) -> None:
    images: Sequence[tuple[str, str, dict[str, Difference], Answer]] = [
        ("a", "a", {"clean": off(1.0), "probabilities": off(math.inf)}, ANSWER),
        ("b", "b", {"clean": off(0.0)}, ANSWER),
    ]
    (errors,) = observed(bundle, *images).maps
    assert errors.broken.tolist() == [[True, False], [True, False]]
    np.testing.assert_array_equal(errors.ratios, [[np.inf, 0], [np.inf, np.nan]])
