"""Who may import whom, what starts without torch, and how large a file may be."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import classkinfy_export

PACKAGE = Path(classkinfy_export.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What the core install does not bring.
HEAVY = (
    *("torch", "torchvision", "timm", "lightning", "torchmetrics", "safetensors"),
    *("tensorflow", "litert_torch", "ai_edge_litert", "jax"),
    *("onnx", "onnxscript", "pandas", "sklearn", "skimage", "jinja2", "matplotlib"),
    *("cyclonedx", "packageurl"),
    *("fastapi", "uvicorn", "sqlalchemy", "prometheus_client"),
)
TORCH_FREE = (
    *(
        "errors",
        "taxonomy",
        "contract",
        "precision",
        "tolerances",
        "recipes",
        "resampling",
        "frame",
    ),
    *("decision", "files"),
    *("bundle", "runtimes", "parity", "latency", "cli", "data.synthetic", "jobs.doctor"),
)

BLOCK = f"""
import importlib, importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""


def modules() -> list[str]:
    """Every module of the package, by its dotted name."""
    found = pkgutil.walk_packages([str(PACKAGE)], "classkinfy_export.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def torch_free() -> list[str]:
    trees = tuple(f"classkinfy_export.{name}" for name in TORCH_FREE)
    return [m for m in modules() if m in trees or m.startswith(tuple(f"{t}." for t in trees))]


def python(script: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_import_contract_is_kept() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert f"Contracts: {len(settings['contracts'])} kept, 0 broken." in ran.stdout
    assert len(settings["contracts"]) >= 6


def test_the_torch_free_tree_imports_where_nothing_heavy_is_installed() -> None:
    names = torch_free()
    # One of each, so that a tree that moved is not forgotten.
    for expected in ("frame", "bundle.reader", "runtimes.pytorch", "parity.verify", "cli.app"):
        assert f"classkinfy_export.{expected}" in names
    python(f"{BLOCK}\nfor name in {names!r}:\n    importlib.import_module(name)")


def test_the_torch_tree_does_not_import_there() -> None:
    script = f"""{BLOCK}
try:
    import classkinfy_export.stages.network
except ModuleNotFoundError as error:
    print(error)
"""
    assert python(script) == "timm is blocked\n"


def test_no_help_imports_anything_heavy() -> None:
    script = f"""
import contextlib, io, json, sys
import typer.main
from classkinfy_export.cli.app import app

def verbs(command, before=()):
    yield before
    for name, below in getattr(command, "commands", {{}}).items():
        yield from verbs(below, (*before, name))

found = []
for verb in verbs(typer.main.get_command(app)):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            app([*verb, "--help"])
        except SystemExit as stopped:
            code = stopped.code
    heavy = sorted(set({HEAVY!r}) & set(sys.modules))
    found.append([" ".join(verb), code, "Usage: " in text.getvalue(), heavy])
print(json.dumps(found))
"""
    found = json.loads(python(script))
    verbs = {verb for verb, *_ in found}
    assert {"", "export", "train", "verify", "data check", "data synthesise"} <= verbs
    for verb, code, usage, heavy in found:
        assert (verb, code, usage, heavy) == (verb, 0, True, [])


def test_the_command_and_the_module_start() -> None:
    command = Path(sys.executable).with_name("classkinfy")
    for start in ([command], [sys.executable, "-m", "classkinfy_export"]):
        ran = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
        assert ran.stdout == f"classkinfy-export {classkinfy_export.__version__}\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_file_is_read_in_one_sitting_and_named_after_what_it_is(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
    assert not {path.stem, path.parent.name} & {"utils", "util", "helpers", "common", "misc"}


def test_every_module_says_what_it_is() -> None:
    silent = [p.name for p in SOURCES if not p.read_text(encoding="utf-8").startswith('"""')]
    assert silent == []
