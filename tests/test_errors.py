"""The tree of errors, their one line, their exit codes, and missing dependencies."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path

import pytest

from classkinfy_export import errors
from classkinfy_export.errors import (
    ClasskinfyError,
    GateFailedError,
    MissingDependencyError,
    require,
)


def subclasses(kind: type[ClasskinfyError]) -> set[type[ClasskinfyError]]:
    below = set(kind.__subclasses__())
    return below.union(*(subclasses(child) for child in below))


def package(kind: type[ClasskinfyError]) -> str:
    return kind.__module__.split(".")[0]


ALL = sorted(
    (
        kind
        for kind in subclasses(ClasskinfyError) | {ClasskinfyError}
        if package(kind) == package(ClasskinfyError)
    ),
    key=lambda kind: kind.__name__,
)


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            above[len(found[1]) // 4 :] = [found[2]]
            drawn[found[2]] = above[-2] if len(above) > 1 else None
    true = {k.__name__: k.__base__.__name__ if k is not ClasskinfyError else None for k in ALL}
    assert drawn == true


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_one_line_with_its_hint_behind_it(kind: type[ClasskinfyError]) -> None:
    error = kind("the file\n  x.jpg is\tdamaged", hint=" copy it\nagain ")
    assert str(error) == "the file x.jpg is damaged: copy it again"
    assert (error.message, error.hint) == ("the file x.jpg is damaged", "copy it again")
    assert str(kind("no hint")) == "no hint"
    assert kind.__doc__


def test_only_a_gate_that_failed_exits_with_1() -> None:
    assert {kind: kind.exit_code for kind in ALL} == {
        kind: 1 if kind is GateFailedError else 2 for kind in ALL
    }


@pytest.mark.parametrize("kind", ALL)
def test_an_error_raised_in_a_worker_process_reads_the_same_here(
    kind: type[ClasskinfyError],
) -> None:
    there = kind("the file is damaged", hint="copy it again")
    here = pickle.loads(pickle.dumps(there))
    assert type(here) is kind
    assert str(here) == str(there)


def test_a_dependency_that_is_there_is_not_imported_to_find_that_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    require("slow_to_import", extra="export", purpose="exporting")
    assert "slow_to_import" not in sys.modules


def test_a_dependency_that_is_missing_is_named_with_the_extra_that_has_it() -> None:
    with pytest.raises(MissingDependencyError) as error:
        require("litert_torch_gone", extra="litert", purpose="exporting to LiteRT")
    assert str(error.value) == (
        "exporting to LiteRT needs litert_torch_gone, which is not installed: "
        "pip install 'classkinfy-export[litert]'"
    )
