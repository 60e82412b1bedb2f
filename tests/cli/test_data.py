"""``classkinfy data``: check, split and synthesise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from listing import listing

from classkinfy_export.taxonomy import Taxonomy

CLASSES = Taxonomy().classes

Classkinfy = Callable[..., Any]


def test_data_check_and_split_agree_on_the_images(
    lesions: Path, classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy("data", "check", lesions, "--json")
    assert ran.exit_code == 0
    summary = json.loads(ran.stdout)
    assert summary["images"] == summary["lesions"] == summary["masks"] == 63
    assert summary["classes"] == dict.fromkeys(CLASSES, 9)
    assert "63 images of 63 lesions" in classkinfy("data", "check", lesions).stdout
    assert classkinfy("data", "split", lesions, "--out", out).exit_code == 0
    parts = [line.split(",")[-1] for line in out.read_text().splitlines()[1:]]
    assert len(parts) == 63
    assert set(parts) == {"train", "calib", "test"}, "train/mobile.yaml validates on nothing"
    assert listing(out.parent) == [out.name]


def test_data_synthesise_draws_a_set_that_data_check_reads(
    classkinfy: Classkinfy, out: Path
) -> None:
    ran = classkinfy("data", "synthesise", "--out", out, "--lesions", 1, "--seed", 3)
    assert ran.exit_code == 0
    assert ran.stdout == f"{out}\n"
    assert listing(out.parent) == [out.name]
    summary = json.loads(classkinfy("data", "check", out, "--json").stdout)
    assert summary["lesions"] == 7
