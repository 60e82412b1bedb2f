"""``classkinfy export``: the same twice, replaced when told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from listing import listing

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.taxonomy import DISCLAIMER

QUICK = ("--set", "formats=[pytorch]", "--set", "golden=false")

Classkinfy = Callable[..., Any]


def test_export_is_the_same_twice_and_as_folder_or_archive(
    weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    hashes, archives = [], []
    for name in ("one", "two", "one.ckb", "two.ckb"):
        out = tmp_path / name
        given = ("--classifier", weights / "classifier.safetensors")
        given += ("--grader", f"mel={weights / 'grader_mel.safetensors'}")
        given += ("--screen", weights / "screen.safetensors")
        ran = classkinfy("export", *given, *QUICK, "--out", out, "--json")
        assert ran.exit_code == 0
        document = json.loads(ran.stdout)
        assert document == {"bundle": str(out), "manifest_sha256": Bundle.open(out).sha256}
        hashes.append(document["manifest_sha256"])
        if out.suffix:
            archives.append(out.read_bytes())
    assert len(set(hashes)) == 1
    assert archives[0] == archives[1]
    assert listing(tmp_path) == ["one", "one.ckb", "two", "two.ckb"]


def test_export_replaces_a_bundle_when_told_to(
    weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    given = ("--classifier", weights / "classifier.safetensors", *QUICK)
    for name in ("bundle", "bundle.ckb"):
        out = tmp_path / name
        classkinfy("export", *given, "--out", out)
        ran = classkinfy("export", *given, "--set", "name=next", "--out", out, "--overwrite")
        assert ran.exit_code == 0
        assert f"bundle: {out}" in ran.stdout
        assert DISCLAIMER in ran.stdout
        assert Bundle.open(out).manifest.name == "next"
    assert listing(tmp_path) == ["bundle", "bundle.ckb"]


def test_a_path_with_brackets_is_printed_as_it_is(
    weights: Path, classkinfy: Classkinfy, tmp_path: Path
) -> None:
    out = tmp_path / "[bold]b[/x]"
    given = ("--classifier", weights / "classifier.safetensors", *QUICK)
    ran = classkinfy("export", *given, "--out", out)
    assert ran.exit_code == 0
    assert f"bundle: {out}" in ran.stdout
    again = classkinfy("export", *given, "--out", out)
    assert str(out) in again.error()
