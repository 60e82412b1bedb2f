"""``classkinfy estimate``: what it says of phones that are not here, and that it says how sure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from classkinfy_export.cli import estimate, terminal

app = typer.Typer(cls=terminal.Group, pretty_exceptions_enable=False)
app.command("estimate")(estimate.command)


@app.callback()
def _root() -> None:
    """A second level, so that the verb is one."""


def run(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["estimate", *map(str, arguments)], catch_exceptions=False)
    return ran.exit_code, ran.stdout


def test_a_table_of_estimates_says_that_none_was_measured(trunk_bundle: Path) -> None:
    code, shown = run(trunk_bundle, "--phones", "pixel-4,galaxy-a54")
    assert code == 0
    assert "estimated and not measured" in shown
    assert "Google Pixel 4" in shown
    assert "Samsung Galaxy A54" in shown
    assert "Google Pixel 6" not in shown
    rows = [line for line in shown.splitlines() if "Google Pixel 4" in line]
    # prepare, screen, classify, the dearest grader and the total, each with an interval.
    assert len(re.findall(r"[\d.]+ \([\d.]+-[\d.]+\)", rows[0])) == 5
    assert "of phones and networks held out, estimates were off by" in shown
    assert "published latencies were within their interval" in shown
    told = " ".join(shown.split())
    assert "prepare, screen: mostly elementwise operators" in told
    assert "Cortex-A78: no core of this kind was fitted on" in told
    assert "Cortex-A76: no core" not in told, "it was"


def test_json_tells_all_that_the_table_does(trunk_bundle: Path) -> None:
    code, shown = run(trunk_bundle, "--phones", "pixel-4", "--threads", 4, "--json")
    report = json.loads(shown)
    assert code == 0
    assert report["kind"] == "estimated"
    (phone,) = report["phones"]
    assert phone["threads"] == 4
    assert {"ms", "low_ms", "high_ms"} == set(phone["total"])
    assert 0 < report["fit"]["both_held_out"]["coverage"] <= 1
    assert not (trunk_bundle / "evidence/estimate.json").exists(), "an estimate is no evidence"


def test_a_phone_that_is_not_known_is_bad_input(
    trunk_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, shown = run(trunk_bundle, "--phones", "nokia-3310")
    assert (code, shown) == (2, "")
    assert "phone 'nokia-3310' cannot be read" in capfd.readouterr().err
