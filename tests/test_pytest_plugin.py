"""The plugin, in a pytest of its own: a test a gate, which fails where the gate does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from tiny_bundle import make_bundle

from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.reader import Bundle


def run(folder: Path, *arguments: object) -> tuple[int, str, ET.Element]:
    """Run pytest where there is no test but the plugin's."""
    given = [str(argument) for argument in arguments]
    plugin = ["-p", "no:cacheprovider", "-p", "no:anyio"]
    command = [sys.executable, "-m", "pytest", *plugin, "--rootdir", ".", "--junit-xml=out.xml"]
    ran = subprocess.run(
        [*command, *given], cwd=folder, capture_output=True, text=True, check=False
    )
    path = folder / "out.xml"
    root = ET.parse(path).getroot() if path.is_file() else ET.Element("none")
    return ran.returncode, ran.stdout + ran.stderr, root


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_each_gate_is_a_test(trunk_bundle: Path, empty: Path) -> None:
    code, text, root = run(
        empty, "--classkinfy-bundle", trunk_bundle, "--classkinfy-runtimes", "onnxruntime", "-v"
    )
    assert code == 0, text
    names = {case.get("name") for case in root.iter("testcase")}
    assert "onnxruntime.fp32.staged[preprocessing: prepare]" in names
    assert "onnxruntime.fp32.fused[decisions]" in names
    assert "all[verdict]" in names
    assert f"{len(names)} passed" in text


def test_only_the_gate_of_what_is_wrong_fails(
    trunk_bundle: Path, tmp_path: Path, empty: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    path = bundle / "models" / "onnx" / "screen.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == "float32" and values.ndim == 2 and 7 in values.shape:
            tensor.CopyFrom(numpy_helper.from_array(values * values.dtype.type(1.1), tensor.name))
    path.write_bytes(model.SerializeToString())
    manifest = Bundle.open(trunk_bundle).manifest
    writer.seal(bundle, manifest.model_copy(update={"files": writer.pin(bundle)}))
    code, text, root = run(
        empty, "--classkinfy-bundle", bundle, "--classkinfy-runtimes", "onnxruntime,nothing-such"
    )
    assert code == 4, text
    assert "runtime 'nothing-such' is unknown" in text
    code, text, root = run(
        empty, "--classkinfy-bundle", bundle, "--classkinfy-runtimes", "onnxruntime"
    )
    assert code == 1
    failed = {c.get("name") for c in root.iter("testcase") if c.find("failure") is not None}
    assert "onnxruntime.fp32.staged[preprocessing: screen]" in failed
    assert not any("fused" in str(name) or "prepare" in str(name) for name in failed)
    assert "preliminary: " in text


@pytest.mark.parametrize("told", ["option", "variable"])
def test_a_bundle_that_nobody_signed_is_not_verified_where_keys_are_trusted(
    told: str, tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = signature.generate(tmp_path / "key.pem")
    option = ("--classkinfy-trusted", public) if told == "option" else ()
    if told == "variable":
        monkeypatch.setenv("CLASSKINFY_TRUSTED", str(public))
    bundle = make_bundle(tmp_path / "bundle").path
    code, text, _ = run(empty, "--classkinfy-bundle", bundle, *option)
    assert code == 4, text
    assert "is not signed, and 1 keys are trusted" in text


def test_a_runtime_that_was_asked_for_and_did_not_run_fails(
    trunk_bundle: Path, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSKINFY_ARM64", str(tmp_path / "nowhere"))
    code, text, root = run(
        empty, "--classkinfy-bundle", trunk_bundle, "--classkinfy-runtimes", "arm64-litert"
    )
    assert code == 1, text
    failed = {c.get("name") for c in root.iter("testcase") if c.find("failure") is not None}
    assert failed == {"arm64-litert[not run]", "all[verdict]"}


def test_without_a_bundle_it_adds_nothing(empty: Path) -> None:
    code, text, _ = run(empty)
    assert code == 5, text
    assert "no tests ran" in text
