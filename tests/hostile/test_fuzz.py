"""A few of the cases of ``benchmarks/fuzz.py``, of which thousands are run by hand."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest
from readers import READERS

CASES = 100


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("reader", READERS)
def test_what_is_made_wrong_is_refused_in_one_line_or_read(
    reader: str, trunk_bundle: Path, tmp_path: Path
) -> None:
    made = READERS[reader](trunk_bundle, tmp_path)
    refused = 0
    for number in range(CASES):
        outcome = fuzz.attempt(made.read, made.case(fuzz.seeded(reader, number)))
        assert not outcome.crash, f"--reader {reader!r} --first {number}: {outcome.crash}"
        refused += outcome.refused
    assert refused > CASES // 5


def test_a_crash_a_long_refusal_and_one_without_advice_are_found() -> None:
    from classkinfy_export.errors import BundleError

    def raising(error: Exception) -> fuzz.Outcome:
        def read(given: object) -> None:
            raise error

        return fuzz.attempt(read, None)

    assert "KeyError" in raising(KeyError("x")).crash
    assert "what to do" in raising(BundleError("wrong")).crash
    assert "characters" in raising(BundleError("x" * 5000, hint="none")).crash
    assert raising(BundleError("wrong", hint="mend it")) == fuzz.Outcome("", True)
