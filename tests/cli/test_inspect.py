"""``classkinfy inspect`` and ``report``: what is in a bundle, shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from listing import listing

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE, Taxonomy

CLASSES = Taxonomy().classes

Classkinfy = Callable[..., Any]


def test_inspect_shows_what_a_bundle_holds(trunk_bundle: Path, classkinfy: Classkinfy) -> None:
    ran = classkinfy("inspect", trunk_bundle)
    assert ran.exit_code == 0
    assert "every hash matches" in ran.stdout
    assert "hair removal: on" in ran.stdout
    assert "bill of materials: sbom.cdx.json" in ran.stdout
    for file in ("models/onnx/classify.onnx", "models/litert/main.tflite"):
        assert file in ran.stdout
    assert DISCLAIMER in ran.stdout
    document = json.loads(classkinfy("inspect", trunk_bundle, "--json").stdout)
    opened = Bundle.open(trunk_bundle)
    assert document["manifest_sha256"] == opened.sha256
    assert document["manifest"] == opened.manifest.model_dump(mode="json")
    assert document["manifest"]["disclaimer"] == DISCLAIMER
    assert document["manifest"]["severity_notice"] == PROXY_NOTICE


def test_text_in_a_bundle_is_shown_and_not_read_as_style(
    bundle: Path, photo: Path, classkinfy: Classkinfy
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["name"] = "[/bold] [red]x"
    manifest["taxonomy"]["names"] = {dx: f"[/] [link={dx}]" for dx in CLASSES}
    manifest["quality_rules"][0] |= {"above": -1.0, "reason": "[/] [hair]"}
    writer.seal(bundle, Manifest.model_validate(manifest))
    assert "[/bold] [red]x" in classkinfy("inspect", bundle).stdout
    answer = classkinfy("predict", bundle, photo)
    assert answer.exit_code == 0
    assert "refused: [/] [hair]" in answer.stdout
    assert "[/] [link=mel]" in answer.stdout


def test_report_is_one_page_with_the_disclaimer(
    trunk_bundle: Path, classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy("report", trunk_bundle, "--out", out, "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["report"] == str(out)
    assert listing(out.parent) == [out.name]
    page = out.read_text()
    assert DISCLAIMER in page
    assert PROXY_NOTICE in page
