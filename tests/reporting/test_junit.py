"""A report for CI: JUnit XML that counts right, and Markdown for the job's page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.parity.report import NotRun, ParityReport
from classkinfy_export.parity.verify import verify
from classkinfy_export.reporting.junit import junit
from classkinfy_export.reporting.summary import summary
from classkinfy_export.taxonomy import DISCLAIMER


@pytest.fixture(scope="module")
def report(trunk_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> ParityReport:
    photo = tmp_path_factory.mktemp("photos") / "mel.png"
    Image.fromarray(synthetic.lesion("mel", 0, height=96, width=128).image).save(photo)
    found = verify(Bundle.open(trunk_bundle), [photo], names=["onnxruntime"])
    assert found.passed
    return found


def failed(report: ParityReport) -> ParityReport:
    """The same with a tensor, a decision and a runtime that did not hold."""
    row = next(t for t in report.tensors if t.tensor == "clean")
    tensors = tuple(
        t.model_copy(update={"minimum_tolerance": 3.0, "passed": False}) if t is row else t
        for t in report.tensors
    )
    first, *others = report.decisions
    bad = first.model_copy(
        update={"flips": 1, "flipped": ("mel|<b>",), "flip_bound": 1.0, "passed": False}
    )
    return report.model_copy(
        update={
            "tensors": tensors,
            "decisions": (bad, *others),
            "not_run": (NotRun(runtime="litert", reason="it is not installed & <hint>"),),
            "passed": False,
        }
    )


def test_each_gate_of_each_stage_is_a_test(report: ParityReport) -> None:
    root = ET.fromstring(junit(report))
    cases = root.findall("testsuite/testcase")
    named = {(case.get("classname"), case.get("name")) for case in cases}
    assert len(named) == len(cases) == int(root.get("tests", "0"))
    assert ("small.onnxruntime.fp32.staged", "preprocessing: prepare") in named
    assert ("small.onnxruntime.fp32.staged", "tensors: classify") in named
    assert ("small.onnxruntime.fp32.staged", "tensors: grade_akiec") in named
    assert ("small.onnxruntime.fp32.fused", "preprocessing: pipeline") in named
    assert ("small.onnxruntime.fp32.fused", "decisions") in named
    assert root.get("failures") == "0"
    assert root.find(".//failure") is None


def test_failures_and_what_did_not_run_are_counted(report: ParityReport) -> None:
    root = ET.fromstring(junit(failed(report)))
    assert (root.get("failures"), root.get("skipped")) == ("3", "1"), "two, and the verdict"
    suites = root.findall("testsuite")
    for count in ("tests", "failures", "skipped"):
        assert sum(int(suite.get(count, "")) for suite in suites) == int(root.get(count, ""))
    case = next(c for c in root.iter("testcase") if c.get("name") == "preprocessing: prepare")
    failure = case.find("failure")
    assert failure is not None
    assert "clean: 3 of 0 allowed" in failure.get("message", "")
    assert "mel" in (failure.text or ""), "the worst image"
    skipped = root.find(".//skipped")
    assert skipped is not None
    assert skipped.get("message") == "it is not installed & <hint>"


def test_the_summary_tells_the_verdict_and_each_runtime(report: ParityReport) -> None:
    text = summary(report)
    assert "holds" in text.splitlines()[0]
    assert "| onnxruntime | fp32 | staged | pytorch | 1 | 6 of 6 equal |" in text
    assert "not proven" in text, "one image proves nothing"
    assert DISCLAIMER in text
    bad = summary(failed(report))
    assert "**FAILS**" in bad.splitlines()[0]
    assert "mel\\|&lt;b>" in bad, "a name does not break the table"
    assert "not run: it is not installed" in bad
