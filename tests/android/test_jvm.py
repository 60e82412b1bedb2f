"""The Kotlin that the app runs, on a desktop JVM: its tests, and real kernels on real bundles."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from classkinfy_export import runtimes
from classkinfy_export.bundle import signature, writer
from classkinfy_export.bundle.manifest import MANIFEST, PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.latency.device.app import AppResult
from classkinfy_export.runtimes.session import Session

if TYPE_CHECKING:
    from build import Build, Test

ANDROID_DEMO = Path(__file__).parents[2] / "android_demo"
RUNTIMES = {"onnxruntime": "onnx", "litert": "litert"}
BUNDLES = ("trunk_bundle", "separate_bundle")
Once = Callable[[str, Callable[[Path], object]], Path]


def class_names(*folder: str) -> list[str]:
    """Return the names of a folder's classes of tests."""
    return sorted(path.stem for path in ANDROID_DEMO.joinpath(*folder).rglob("*Test.kt"))


def check(tests: dict[str, list[Test]], name: str) -> None:
    """Every test of a class ran and passed."""
    found = next(found for full, found in tests.items() if full.rpartition(".")[2] == name)
    unwell = [f"{test.name}: {test.message}" for test in found if test.outcome != "passed"]
    assert not unwell, "\n".join(unwell)
    assert found


@pytest.fixture(scope="session")
def results(once: Once) -> Path:
    """Where core's tests leave what Python is to read."""
    return once("kotlin-results", lambda folder: folder.mkdir())


@pytest.fixture(scope="session")
def core_tests(build: Build, vectors: Path, results: Path) -> dict[str, list[Test]]:
    """What core's tests said."""
    return build.test_core(vectors, results)


@pytest.fixture(scope="session")
def engine_tests(build: Build, vectors: Path, trunk_bundle: Path) -> dict[str, list[Test]]:
    """What the tests of engines and decoder said."""
    return build.test_engines(vectors, trunk_bundle)


@pytest.mark.parametrize("name", class_names("core", "src", "test"))
def test_core(core_tests: dict[str, list[Test]], name: str) -> None:
    """Framing, bundles, signatures, routing, self-test: equal to Python's."""
    check(core_tests, name)


@pytest.mark.parametrize("name", class_names("jvm", "src", "test"))
def test_engines(engine_tests: dict[str, list[Test]], name: str) -> None:
    """ONNX Runtime and LiteRT behind the same interface, and the decoder."""
    check(engine_tests, name)


@pytest.mark.parametrize("form", ["staged", "fused"])
@pytest.mark.usefixtures("core_tests")
def test_the_benchmarks_json_is_what_bench_reads(results: Path, form: str) -> None:
    result = AppResult.model_validate_json((results / f"benchmark-{form}.json").read_bytes())
    assert result.measurement is not None
    assert result.measurement.latency_ms
    assert result.error is None


@pytest.mark.usefixtures("core_tests")
def test_a_failed_benchmark_says_why(results: Path) -> None:
    result = AppResult.model_validate_json((results / "benchmark-failed.json").read_bytes())
    assert result.measurement is None
    assert result.error


@pytest.fixture
def replay(build: Build) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Replay golden vectors: exit code, report, and what was said of an error."""

    def run(bundle: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
        done = build.replay("replay", bundle, *arguments)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return done.returncode, json.loads(lines[0]) if lines else {}, done.stderr

    return run


@pytest.mark.parametrize("form", ["staged", "fused"])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", BUNDLES)
def test_golden_vectors_hold(
    request: pytest.FixtureRequest, replay: Any, name: str, runtime: str, form: str
) -> None:
    bundle = request.getfixturevalue(name)
    manifest = Bundle.open(bundle).manifest
    if form == "fused" and manifest.find_model(PIPELINE, RUNTIMES[runtime], "fp32") is None:
        code, _, said = replay(bundle, runtime, "fp32", form)
        assert code == 2
        assert "EngineException" in said
        assert "fused" in said
        return
    code, report, said = replay(bundle, runtime, "fp32", form)
    assert code == 0, (report, said)
    assert report["label"] == f"{RUNTIMES[runtime]} fp32 {form}"
    assert report["passed"]
    assert report["flips"] == 0
    assert report["cases"] == len(json.loads((bundle / "golden/golden.json").read_text())["cases"])
    exact = {"accepted", "reasons", "diagnosis", "quality"}
    assert exact <= set(report["tensors"])
    assert all(report["tensors"][tensor]["largest"] == 0 for tensor in exact)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_models_that_answer_otherwise_than_pytorch_fail(
    trunk_bundle: Path, replay: Any, tmp_path: Path, runtime: str
) -> None:
    """Real kernels, whole hashes, another network: only the golden vectors can tell."""
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    manifest = Bundle.open(bundle).manifest
    swapped = {"grade_mel": "grade_nv", "grade_nv": "grade_mel"}

    def swap(model: Any) -> Any:
        if model.format != RUNTIMES[runtime] or not swapped.keys() & model.entries.keys():
            return model
        entries = {swapped.get(stage, stage): entry for stage, entry in model.entries.items()}
        return model.model_copy(update={"entries": entries})

    models = tuple(swap(model) for model in manifest.models)
    writer.seal(bundle, manifest.model_copy(update={"models": models}))
    code, report, said = replay(bundle, runtime, "fp32", "staged")
    assert code == 1, said
    assert not report["passed"]
    assert any("severity_mel is off by" in failure for failure in report["failures"])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tampered_model_is_never_opened(
    trunk_bundle: Path, replay: Any, tmp_path: Path, runtime: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    model = Bundle.open(bundle).manifest.find_model("classify", RUNTIMES[runtime], "fp32")
    assert model is not None
    data = bytearray((bundle / model.path).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / model.path).write_bytes(data)
    code, report, said = replay(bundle, runtime, "fp32", "staged")
    assert (code, report) == (2, {})
    assert f"BundleException: {model.path} was changed" in said


def test_a_tampered_manifest_is_refused(trunk_bundle: Path, replay: Any, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    path = bundle / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"mild", b"none", 1))
    code, _, said = replay(bundle, "onnxruntime", "fp32", "staged")
    assert code == 2
    assert f"BundleException: {MANIFEST} was changed" in said


def test_only_a_trusted_signer_is_run(trunk_bundle: Path, replay: Any, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(trunk_bundle, bundle)
    own = signature.read_public(signature.generate(tmp_path / "own.pem"))
    other = signature.read_public(signature.generate(tmp_path / "other.pem"))
    code, _, said = replay(bundle, "onnxruntime", "fp32", "staged", own)
    assert code == 2
    assert "is not signed" in said
    writer.sign(Bundle.open(bundle), tmp_path / "own.pem")
    code, report, said = replay(bundle, "onnxruntime", "fp32", "staged", own)
    assert code == 0, said
    assert report["signer"] == "signed by a trusted key"
    code, report, said = replay(bundle, "onnxruntime", "fp32", "staged")
    assert code == 0, said
    assert report["signer"] == "signed by an unknown key"
    code, _, said = replay(bundle, "onnxruntime", "fp32", "staged", other)
    assert code == 2
    assert "signed by another key" in said


@pytest.mark.parametrize("precision", ["fp32", "static_wi8_ai8"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_answers_are_pythons(
    build: Build, quantised_bundle: Path, lesions: list[Path], runtime: str, precision: str
) -> None:
    """Photo files in, whole answers out: every key, and the same decisions."""
    done = build.replay("answer", quantised_bundle, runtime, precision, "staged", lesions[0].parent)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [answer["file"] for answer in answers] == [path.name for path in lesions]
    opened = Bundle.open(quantised_bundle)
    with runtimes.get(runtime).open(opened, precision=precision) as engine:
        session = Session(engine)
        wanted = [session.predict(path).to_json() for path in lesions]
    for given, expected in zip((answer["answer"] for answer in answers), wanted, strict=True):
        assert set(given) == set(expected)
        assert set(given.pop("timings_ms")) == set(expected.pop("timings_ms"))
        assert flat(given) == pytest.approx(flat(expected), abs=1e-5)


def flat(answer: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of an answer by their path, lists joined."""
    if isinstance(answer, dict):
        parts = (flat(part, f"{name}/{key}") for key, part in answer.items())
        return {path: leaf for part in parts for path, leaf in part.items()}
    return {name: ", ".join(answer) if isinstance(answer, list | tuple) else answer}


def test_a_photo_on_its_side_is_turned(
    build: Build, trunk_bundle: Path, lesions: list[Path], tmp_path: Path
) -> None:
    turned = tmp_path / "photos"
    turned.mkdir()
    image = Image.open(lesions[0])
    image.save(turned / "a_upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(turned / "b_turned.png", exif=exif)
    done = build.replay("answer", trunk_bundle, "onnxruntime", "fp32", "staged", turned)
    assert done.returncode == 0, done.stderr
    first, second = (
        json.loads(line)["answer"]["probabilities"] for line in done.stdout.splitlines()
    )
    assert first == second
    assert len(np.unique(list(first.values()))) > 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_native_library_that_is_missing_is_told(
    build: Build, trunk_bundle: Path, lesions: list[Path], tmp_path: Path, runtime: str
) -> None:
    """As on a phone of another ABI: an error that an app can catch, to fall back."""
    missing = {"onnxruntime.native.path": tmp_path, "classkinfy.litert": tmp_path / "no.so"}
    given = ("answer", trunk_bundle, runtime, "fp32", "staged", lesions[0].parent)
    done = build.replay(*given, properties=missing)
    assert done.returncode == 2
    assert "EngineException" in done.stderr
    assert "native library is missing" in done.stderr


def test_litert_is_the_one_that_gradle_fetches() -> None:
    catalogue = ANDROID_DEMO / "gradle" / "libs.versions.toml"
    wanted = tomllib.loads(catalogue.read_text())["versions"]["litert"]
    provider = ANDROID_DEMO.joinpath(
        "engine-litert/src/main/kotlin/org/classkinfy/litert/LitertEngineProvider.kt"
    )
    assert f'override val version = "{wanted}"' in provider.read_text()
    assert importlib.metadata.version("ai-edge-litert") == wanted
