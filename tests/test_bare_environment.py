"""The core install, in an environment of its own, without torch: what it does, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import classkinfy_export
from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form
from classkinfy_export.data import synthetic
from classkinfy_export.runtimes.session import Session
from classkinfy_export.taxonomy import DISCLAIMER

ROOT = Path(classkinfy_export.__file__).parent.parent
# How pip says that it reached no index; anything else that fails is this package's fault.
UNREACHABLE = (
    *("NewConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ProxyError"),
    *("NameResolutionError", "Network is unreachable", "Connection refused", "SSLError"),
)


class Bare:
    """An environment with the core install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [self.bin / program, *map(str, arguments)],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    made = Bare(tmp_path_factory.mktemp("bare"))
    subprocess.run([sys.executable, "-m", "venv", made.bin.parent], check=True)
    options = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1")
    constraints = ("--constraint", ROOT / "constraints.txt")
    ran = made.run("python", "-m", "pip", "install", *options, *constraints, ROOT)
    if ran.returncode != 0:
        reason = next((sign for sign in UNREACHABLE if sign in ran.stderr), None)
        if reason is not None:
            pytest.skip(f"pip reaches no index: {reason}")
    assert ran.returncode == 0, ran.stderr
    return made


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "lesion.png"
    Image.fromarray(synthetic.lesion("mel", seed=1, height=192, width=256, hair=0).image).save(path)
    return path


def test_nothing_heavy_is_installed(bare: Bare) -> None:
    script = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    heavy = ("torch", "tensorflow", "pandas", "onnx", "timm", "ai_edge_litert", "matplotlib")
    ran = bare.run("python", "-c", script, *heavy, "onnxruntime")
    assert ran.stdout == "['onnxruntime']\n"
    where = bare.run("python", "-c", "import classkinfy_export as c; print(c.__file__)").stdout
    assert Path(where.strip()).is_relative_to(bare.folder)


@pytest.mark.parametrize("form", ["staged", "fused"])
def test_it_predicts_exactly_as_here(
    form: Form, bare: Bare, trunk_bundle: Path, photo: Path
) -> None:
    ran = bare.run("classkinfy", "predict", trunk_bundle, photo, "--form", form, "--json")
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    with runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle)) as engine:
        here: dict[str, Any] = Session(engine, form).predict(photo).to_json()
    timings = answer.pop("timings_ms"), here.pop("timings_ms")
    assert timings[0].keys() == timings[1].keys()
    assert answer == here
    assert answer["disclaimer"] == DISCLAIMER


def test_it_verifies_the_golden_vectors_and_counts_nothing_else_as_passed(
    bare: Bare, trunk_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(trunk_bundle, tmp_path / "bundle")
    ran = bare.run("classkinfy", "verify", bundle, "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["passed"] is True
    assert report["images"] == len(json.loads((bundle / "golden/golden.json").read_text())["cases"])
    assert {row["runtime"] for row in report["tensors"] + report["decisions"]} == {"onnxruntime"}
    not_run = {row["runtime"]: row["reason"] for row in report["not_run"]}
    assert set(not_run) == {"pytorch", "litert", "litert-reference", "tensorflow"}
    assert not_run["pytorch"].endswith("pip install 'classkinfy-export[export]'")
    assert not_run["litert"].endswith("pip install 'classkinfy-export[litert]'")
    assert not_run["tensorflow"].endswith("pip install 'classkinfy-export[tensorflow]'")
    text = bare.run("classkinfy", "inspect", bundle)
    assert text.returncode == 0
    assert "every hash matches" in text.stdout
    assert "evidence: golden (passed)" in text.stdout


def test_it_measures_latency_of_what_is_installed(
    bare: Bare, trunk_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(trunk_bundle, tmp_path / "bundle")
    once = ("--threads", "1", "--n", "3", "--rounds", "1", "--warmup", "0")
    ran = bare.run("classkinfy", "bench", bundle, *once, "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)["host"]
    assert {row["runtime"] for row in report["rows"]} == {"onnxruntime"}
    assert all(row["of_pytorch"] is None for row in report["rows"])
    assert set(report["not_run"]) == {"pytorch", "litert"}


def test_doctor_says_how_to_get_the_rest(bare: Bare) -> None:
    ran = bare.run("classkinfy", "doctor", "--json")
    assert ran.returncode == 0, ran.stderr
    pieces = {piece["package"]: piece for piece in json.loads(ran.stdout)}
    assert pieces["onnxruntime"]["version"]
    assert pieces["torch"]["version"] is None
    assert pieces["torch"]["hint"] == "pip install 'classkinfy-export[export]'"
    assert "classkinfy-export[litert]" in bare.run("classkinfy", "doctor").stdout


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("verify", "{bundle}", "--images", "{photos}"), "torch", "export"),
        (("verify", "{bundle}", "--runtimes", "litert"), "ai-edge-litert", "litert"),
        (("localise", "{bundle}", "--runtime", "onnxruntime"), "torch", "export"),
        (("predict", "{bundle}", "{photos}/lesion.png", "--runtime", "pytorch"), "torch", "export"),
        (("predict", "{bundle}", "{photos}/lesion.png", "--runtime", "litert"), "", "litert"),
        (("export", "run", "--out", "{new}"), "torch", "export"),
        (("train", "train/smoke.yaml", "--data", "d", "--out", "{new}"), "torch", "train"),
        (("data", "check", "d"), "pandas", "train"),
        (("report", "{bundle}", "--out", "{new}"), "jinja2", "report"),
        (("demo", "--out", "{new}"), "lightning", "train"),
    ],
)
def test_what_is_missing_is_one_line_with_the_command_that_installs_it(
    arguments: tuple[str, ...],
    package: str,
    extra: str,
    bare: Bare,
    trunk_bundle: Path,
    photo: Path,
    tmp_path: Path,
) -> None:
    bundle = shutil.copytree(trunk_bundle, tmp_path / "bundle")
    places = {"bundle": bundle, "photos": photo.parent, "new": tmp_path / "new"}
    ran = bare.run("classkinfy", *(argument.format(**places) for argument in arguments))
    assert ran.returncode == 2
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert f"needs {package}" in line
    assert line.endswith(f"pip install 'classkinfy-export[{extra}]'")
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "new").exists()


def test_the_shipped_recipes_are_in_the_install(bare: Bare) -> None:
    script = """
from classkinfy_export import recipes
for kind, names in {names!r}.items():
    for name in names:
        path = recipes.find(f"{kind}/{name}")
        recipes.load(f"{kind}/{name}", getattr(recipes, f"{kind.capitalize()}Recipe"))
        print(path)
"""
    names = {
        kind: sorted(p.name for p in (ROOT / kind).glob("*.yaml")) for kind in ("train", "export")
    }
    assert "mobile.yaml" in names["export"]
    ran = bare.run("python", "-c", script.replace("{names!r}", repr(names)))
    assert ran.returncode == 0, ran.stderr
    found = [Path(line) for line in ran.stdout.splitlines()]
    assert len(found) == sum(map(len, names.values()))
    assert all(path.is_relative_to(bare.folder) for path in found)
