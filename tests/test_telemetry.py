"""ONNX Runtime's telemetry is off before the library is there, wherever this project brings it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from listing import listing

import classkinfy_export
from classkinfy_export.parity import reproducer
from classkinfy_export.runtimes import worker

PACKAGE = Path(classkinfy_export.__file__).parent
ROOT = PACKAGE.parent
VARIABLE = "ORT_DISABLE_TELEMETRY"
SOURCES = sorted(
    path
    for folder in (PACKAGE, ROOT / "benchmarks", ROOT / "android_demo", ROOT / "tests")
    for path in folder.rglob("*.py")
    if "build" not in path.parts
)
CLEAN = {name: value for name, value in os.environ.items() if name != VARIABLE}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    return []


def switched_off(node: ast.AST) -> bool:
    """Whether a statement sets the variable, or imports the package, which does."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node) == f"os.environ['{VARIABLE}'] = '1'"
    return "classkinfy_export" in imported(node)


def too_early(source: str) -> list[int]:
    """Lines that import ONNX Runtime where nothing above them has switched it off."""
    nodes = list(ast.walk(ast.parse(source)))
    off = min((node.lineno for node in nodes if switched_off(node)), default=sys.maxsize)  # type: ignore[attr-defined]
    typing = {
        inner
        for node in nodes
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return [
        node.lineno  # type: ignore[attr-defined]
        for node in nodes
        if "onnxruntime" in imported(node) and node not in typing and node.lineno < off  # type: ignore[attr-defined]
    ]


def test_no_program_imports_it_before_it_is_switched_off() -> None:
    # Of the package itself its __init__ comes first, but for what is run as a program by its path;
    # and tests come after their conftest.
    programs = [
        path
        for path in SOURCES
        if path == Path(worker.__file__) or not path.is_relative_to(PACKAGE)
        if not path.is_relative_to(ROOT / "tests")
    ]
    early = {path.name: too_early(path.read_text(encoding="utf-8")) for path in programs}
    assert {name: lines for name, lines in early.items() if lines} == {}
    assert too_early((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")) == []
    assert too_early("import onnxruntime\nimport classkinfy_export") == [1]


def test_a_reproducer_of_a_failure_switches_it_off_where_it_runs_alone() -> None:
    assert too_early("import os\n" + reproducer._ONNXRUNTIME.replace("$threads", "1")) == []


@pytest.mark.parametrize(
    "script",
    [
        "import classkinfy_export.jobs.search",
        "from classkinfy_export.runtimes.onnxruntime import open_session\n"
        "try: open_session(b'', 1)\nexcept Exception: pass",
        "import runpy\nruntime = runpy.run_path({worker!r})['onnxruntime']\n"
        "try: runtime(b'', 1)\nexcept Exception: pass",
    ],
    ids=["search", "runtime", "worker"],
)
def test_it_leaves_no_device_id_whatever_brings_it(script: str, tmp_path: Path) -> None:
    # Told nothing, it writes one below HOME as it is imported.
    told = "import os, sys\nassert 'onnxruntime' in sys.modules\n"
    told += f"assert os.environ[{VARIABLE!r}] == '1'"
    environment = {**CLEAN, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(
        [sys.executable, "-c", f"{script.format(worker=worker.__file__)}\n{told}"],
        env=environment,
        check=True,
    )
    assert listing(tmp_path) == []
