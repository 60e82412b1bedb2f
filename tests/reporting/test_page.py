"""The report is one page that loads nothing, hides nothing, and trusts no string."""

from __future__ import annotations

import base64
import copy
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from tiny_bundle import make_bundle

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.reporting.page import render
from classkinfy_export.runtimes.base import Engine, Runtime
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE

HOSTILE = "<script>alert('x')</script>"

TENSOR: dict[str, Any] = {
    "runtime": "onnxruntime",
    "precision": "fp32",
    "form": "staged",
    "reference": "pytorch",
    "step": None,
    "stage": "classify",
    "tensor": "probabilities",
    "gate": "tensors",
    "sqnr_db": 120.0,
    "cosine": 1.0,
    "divergence": 1e-9,
    "images": 3,
    "tolerance": 1e-5,
    "minimum_tolerance": 2e-7,
    "mean_error": 1e-8,
    "worst_image": "worst",
    "worst_index": [0, 1],
    "expected": 0.25,
    "actual": 0.2500002,
    "passed": True,
}
PARITY: dict[str, Any] = {
    "bundle": "b",
    "reference": "pytorch",
    "images": 3,
    "tensors": [TENSOR, {**TENSOR, "tensor": "clean", "tolerance": 0.0, "minimum_tolerance": 0.0}],
    "decisions": [
        {
            "runtime": "onnxruntime",
            "precision": "fp32",
            "form": "staged",
            "reference": "pytorch",
            "images": 3,
            "label_agreement": 1.0,
            "label_flips": 0,
            "malignancy_flips": 0,
            "routing_flips": 0,
            "severity_flips": 0,
            "decision_flips": 0,
            "flips": 0,
            "widest_flip": None,
            "largest_shift": 1e-6,
            "mean_shift": 1e-7,
            "close_calls": 0,
            "largest_close_shift": 0.0,
            "flip_bound": 0.6316,
            "flip_rate": 0.003,
            "images_needed": 998,
            "proven": False,
            "flipped": [],
            "passed": True,
        }
    ],
    "not_run": [],
    "conditions": {"threads": "1"},
    "passed": True,
}
ROW: dict[str, Any] = {
    "runtime": "onnxruntime",
    "form": "staged",
    "threads": 1,
    "route": "nv",
    "answers": 9,
    "cold_start_ms": 300.0,
    "load_ms": 200.0,
    "first_ms": 90.0,
    "p50_ms": 43.21,
    "p90_ms": 51.0,
    "p99_ms": 60.0,
    "stages_p50_ms": {"prepare": 20.0, "classify": 23.0},
    "told_p50_ms": {"diagnosis": 43.1},
    "peak_mib": 200.0,
    "added_mib": 150.0,
    "model_mib": 14.0,
    "steady_mib": 140.0,
    "of_pytorch": None,
    "spread": 1.0,
    "noisy": False,
}
LATENCY: dict[str, Any] = {
    "bundle": "b",
    "image": "synthetic lesion",
    "warmup": 5,
    "rounds": 3,
    "rows": [ROW],
    "not_run": {"litert": "not installed: pip install it"},
    "conditions": {"cpu": "a CPU", "cores": "2", "load_average": "0.10"},
}
PART: dict[str, Any] = {
    "n": 5,
    "accuracy": 0.8,
    "balanced_accuracy": 0.75,
    "auroc": None,
    "recall": {"mel": 0.5, "nv": 1.0},
    "classes": ["mel", "nv"],
    "confusion_matrix": [[1, 1], [0, 3]],
}
ACCURACY: dict[str, Any] = {
    "data": {"name": "drawn", "images": 50},
    "grader_variant": "separate",
    "screen": {"test": PART | {"masks": 5, "mean_iou": 0.7251}},
    "classifier": {"val": PART, "calib": {"n": 0}, "test": PART},
    "graders": {"mel": {"val": {"n": 0}, "calib": {"n": 0}, "test": PART}},
}
EVALUATION: dict[str, Any] = {
    "data": "drawn, test",
    "runtime": "onnxruntime staged",
    "bundle": "b",
    "n": 5,
    "lesions": 4,
    "accepted": 1.0,
    "classes": ["mel", "nv"],
    "figures": {
        "balanced_accuracy": [0.7512, 0.61, 0.83],
        "auroc/mel": [0.912, 0.8, 0.95],
        "auroc/nv": [0.87, 0.8, 0.9],
    },
    "sensitivity": {"mel": {"0.9": [0.4, 0.3, 0.6]}},
    "confusion_matrix": [[1, 1], [0, 3]],
    "reliability": [{"n": 5, "confidence": 0.7, "accuracy": 0.8}],
    "curves": {
        name: {"false_positive_rate": [0, 0.5, 1], "true_positive_rate": [0, 0.9, 1]}
        for name in ("mel", "nv")
    },
    "slices": {},
}
EVERYTHING = {
    "accuracy": ACCURACY,
    "evaluation": EVALUATION,
    "parity": PARITY,
    "latency": LATENCY,
}


class FakeEngine(Engine):
    """Answers without a model: ``hair`` is how much of every image is hair."""

    hair = 0.0

    def close(self) -> None: ...

    def opened(self) -> list[str]:
        return []

    def _load(self, model: ModelFile, stage: str) -> None: ...

    def _run(self, model: ModelFile, spec: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        if spec.name == "prepare":
            quality = np.array([[self.hair, 900, 0, 0]], np.float32)
            return {"clean": inputs["image"], "quality": quality}
        if spec.name == "classify":
            return {"probabilities": np.array([[0, 0, 0.1, 0, 0.7, 0.2, 0]], np.float32)}
        return {"severity": np.array([[0.1, 0.2, 0.7]], np.float32)}


class FakeRuntime(Runtime):
    name: ClassVar[str] = "fake"
    format: ClassVar[Any] = "onnx"
    package: ClassVar[str] = "numpy"
    module: ClassVar[str] = "numpy"
    extra: ClassVar[str] = ""

    def _open(self, bundle: Bundle, precision: Any, threads: int) -> Engine:
        return FakeEngine(bundle, self.format, precision, threads)


@pytest.fixture
def fake_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "get", lambda name: FakeRuntime())


class Page(HTMLParser):
    """Tags, their attributes, and all text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag != "style" or not data.startswith("\n:root"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = render(make_bundle(tmp_path / "b", EVERYTHING))
    assert html.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?://|url\(|@import", html)
    page = Page(html)
    for tag in ("script", "link", "iframe", "object"):
        assert not page.all(tag)
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)


def test_plots_are_svg_without_links_and_each_has_its_alt_text(tmp_path: Path) -> None:
    images = Page(render(make_bundle(tmp_path / "b", EVERYTHING))).all("img")
    assert len(images) == 7
    for image in images:
        svg = base64.b64decode(str(image["src"]).split(",", 1)[1]).decode()
        declared = re.findall(r'(\S+)="https?://', svg)
        assert {name.split(":")[0] for name in declared} <= {"xmlns"}
        assert len(str(image["alt"])) > 20


def test_the_page_says_that_it_is_no_medical_device_and_that_severity_is_a_proxy(
    tmp_path: Path,
) -> None:
    for evidence in ({}, EVERYTHING):
        page = Page(render(make_bundle(tmp_path / str(len(evidence)), evidence)))
        assert DISCLAIMER in page.text
        assert page.text.count(PROXY_NOTICE) >= 2
        assert "split is by lesion" in page.text


def test_an_evaluation_is_shown_with_its_intervals(tmp_path: Path) -> None:
    text = Page(render(make_bundle(tmp_path / "b", EVERYTHING))).text
    assert "Evaluated on drawn, test" in text
    assert "balanced accuracy 0.751 0.610 0.830" in text
    assert "sensitivity, mel at specificity 0.9 0.400 0.300 0.600" in text


def test_missing_evidence_names_the_command_that_makes_it(tmp_path: Path) -> None:
    page = Page(render(make_bundle(tmp_path / "b")))
    assert "classkinfy verify BUNDLE --images DIR" in page.text
    assert "classkinfy bench BUNDLE" in page.text
    assert "parity not verified" in page.text
    assert "passed" not in page.text


def test_evidence_of_another_manifest_counts_as_missing(tmp_path: Path) -> None:
    stale = {"parity": {**PARITY, "manifest_sha256": "0" * 64}}
    assert "parity not verified" in render(make_bundle(tmp_path / "b", stale))


def test_evidence_of_another_shape_is_reported_not_shown(tmp_path: Path) -> None:
    text = Page(render(make_bundle(tmp_path / "b", {"latency": {"rows": "none"}}))).text
    assert "evidence/latency.json cannot be read" in text


def test_holding_parity_is_shown_as_passed(tmp_path: Path) -> None:
    text = Page(render(make_bundle(tmp_path / "b", {"parity": PARITY}))).text
    assert "parity passed" in text
    assert "FAIL" not in text


@pytest.mark.parametrize("summary", [False, True])
def test_a_failing_tensor_is_shown_as_failed_whatever_the_summary_says(
    tmp_path: Path, summary: bool
) -> None:
    parity = copy.deepcopy(PARITY)
    parity["tensors"][0] |= {"minimum_tolerance": 3e-3, "passed": False}
    parity["passed"] = summary
    text = Page(render(make_bundle(tmp_path / "b", {"parity": parity}))).text
    assert "parity FAILED" in text
    assert "parity passed" not in text
    assert "probabilities differs by 0.003 (allowed 1e-05), worst on worst" in text


def test_a_runtime_that_did_not_run_is_not_a_pass(tmp_path: Path) -> None:
    parity = {**PARITY, "not_run": [{"runtime": "litert", "reason": "it is not installed"}]}
    text = Page(render(make_bundle(tmp_path / "b", {"parity": parity}))).text
    assert "parity passed, 1 runtime not run" in text
    assert "litert: it is not installed" in text
    nothing = {**PARITY, "tensors": [], "decisions": []}
    assert "parity FAILED: nothing ran" in render(make_bundle(tmp_path / "n", {"parity": nothing}))


@pytest.mark.parametrize("lost", [math.inf, None])
def test_an_infinite_difference_is_shown_also_after_strict_json(
    tmp_path: Path, lost: float | None
) -> None:
    parity = copy.deepcopy(PARITY)
    parity["tensors"][0] |= {
        "minimum_tolerance": lost,
        "mean_error": lost and math.nan,
        "expected": None,
        "actual": math.inf,
        "passed": False,
    }
    parity["decisions"][0]["label_agreement"] = math.nan
    latency = {**LATENCY, "rows": [{**ROW, "p50_ms": math.nan, "p99_ms": math.inf}]}
    page = render(make_bundle(tmp_path / "b", {"parity": parity, "latency": latency}))
    assert "∞" in page
    assert "parity FAILED" in page


def test_a_noisy_machine_is_admitted(tmp_path: Path) -> None:
    noisy = {**LATENCY, "rows": [{**ROW, "noisy": True}]}
    text = Page(render(make_bundle(tmp_path / "b", {"latency": noisy}))).text
    assert "The machine was too noisy" in text
    assert "Measured on this host, not on a phone; nothing here is estimated." in text
    assert "litert: not installed" in text
    assert "43.2" in text


def test_the_test_part_is_summed_to_the_malignant_side(tmp_path: Path) -> None:
    text = Page(render(make_bundle(tmp_path / "b", {"accuracy": ACCURACY}))).text
    assert "50.0 % of 2 malignant images" in text
    assert "100.0 % of 3 benign ones" in text


@pytest.mark.usefixtures("fake_runtime")
def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = HOSTILE.replace("/", "")  # a golden image is a file: its name has no slash
    parity = copy.deepcopy(PARITY)
    parity["tensors"][0] |= {"worst_image": HOSTILE, "minimum_tolerance": 1.0, "passed": False}
    parity["tensors"][1]["tensor"] = "$\\frac{" + HOSTILE
    parity["not_run"] = [{"runtime": HOSTILE, "reason": HOSTILE}]
    latency = {**LATENCY, "rows": [{**ROW, "runtime": f'"onload="x {HOSTILE}'}]}
    evidence = {"parity": parity, "latency": latency}
    bundle = make_bundle(tmp_path / "b", evidence, name=HOSTILE, golden_names=(f"own_{evil}",))
    html = render(bundle)
    assert "<script" not in html
    page = Page(html)
    assert HOSTILE in page.text
    assert f"own_{evil}" in page.text
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)


@pytest.mark.usefixtures("fake_runtime")
def test_examples_show_the_answer_and_its_proxy_grade(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", golden_names=("one", "two"))
    steps: list[tuple[int, int]] = []
    page = Page(render(bundle, lambda done, total: steps.append((done, total))))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len(page.all("img")) == 4
    assert "melanoma" in page.text
    assert "70.0 %" in page.text
    assert "Severity severe (70.0 %), a proxy grade." in page.text
    shown = [attrs["style"] for attrs in page.all("i")]
    assert shown[:3] == ["width:70.0%", "width:20.0%", "width:10.0%"]


@pytest.mark.usefixtures("fake_runtime")
def test_a_refused_example_has_no_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "hair", 0.5)
    text = Page(render(make_bundle(tmp_path / "b", golden_names=("hairy",)))).text
    assert "refused no diagnosis" in text
    assert "Not graded: refused. Reasons: hair." in text


def test_a_bundle_without_golden_images_says_so(tmp_path: Path) -> None:
    assert "the bundle holds no golden images" in render(make_bundle(tmp_path / "b"))


@pytest.mark.usefixtures("fake_runtime")
def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / d, EVERYTHING, golden_names=("one",)) for d in ("a", "b")]
    first, second = (render(bundle) for bundle in bundles)
    assert first == second
