"""What ``evaluate`` prints, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from classkinfy_export.bundle.reader import Bundle

Classkinfy = Callable[..., Any]


def test_an_evaluation_is_kept_in_the_bundle(
    bundle: Path, lesions: Path, classkinfy: Classkinfy
) -> None:
    ran = classkinfy("evaluate", bundle, "--data", lesions, "--json")
    assert ran.exit_code == 0, ran.stderr
    document = json.loads(ran.stdout)
    kept = Bundle.open(bundle).evidence()["evaluation"]
    assert kept["figures"] == document["figures"]
    assert document["n"] == 63
