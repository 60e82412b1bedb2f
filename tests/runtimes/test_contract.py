"""What every runtime must do, run against every one that is registered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.data import synthetic
from classkinfy_export.errors import BundleError
from classkinfy_export.frame import frame
from classkinfy_export.runtimes.base import Engine
from classkinfy_export.runtimes.session import Session
from classkinfy_export.tolerances import ParityRecipe


def hard_images(height: int, width: int) -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    images = {
        "black": np.zeros((1, height, width, 3), np.uint8),
        "white": np.full((1, height, width, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (1, height, width, 3), np.uint8),
        "bits": rng.integers(0, 2, (1, height, width, 3), np.uint8) * np.uint8(255),
    }
    border_hair = np.full((1, height, width, 3), 200, np.uint8)
    border_hair[:, :, 0] = border_hair[:, 0, :] = border_hair[:, :, -1] = 10
    border_hair[:, :, width // 2] = 0  # one pixel wide
    images["border_hair"] = border_hair
    return images


@pytest.fixture(scope="module", params=["trunk", "separate"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Every test runs against both grader variants."""
    return Bundle.open(request.getfixturevalue(f"{request.param}_bundle"))


# What these cores lack are instructions for int8; floats are the same as their neighbours'.
SHOWN = [name for name in runtimes.NAMES if not name.startswith(("arm64-a53", "x86-avx2"))]


@pytest.fixture(scope="module", params=SHOWN)
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Engine]:
    runtime = runtimes.get(request.param)
    if runtime.on_request and runtime.version() is None:
        pytest.skip(f"{runtime.name} is not set up: {runtime.hint()}")
    assert runtime.version() is not None, runtime.hint()
    with runtime.open(bundle) as engine:
        yield engine


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Session:
    return Session(runtimes.get("pytorch").open(bundle))


def test_every_stage_gives_the_dtypes_and_shapes_of_its_spec(
    engine: Engine, bundle: Bundle
) -> None:
    capture = bundle.manifest.capture
    tensors: dict[str, npt.NDArray[np.generic]] = {
        "image": hard_images(capture.height, capture.width)["noise"]
    }
    for spec in bundle.manifest.stages:
        tensors |= engine.run(spec.name, tensors)
        for tensor in spec.outputs:
            assert tensors[tensor.name].dtype == np.dtype(tensor.dtype), tensor.name
            assert tensors[tensor.name].shape == tensor.shape, tensor.name


@pytest.mark.parametrize("name", ["black", "white", "noise", "bits", "border_hair"])
def test_exact_tensors_are_the_same_bytes_as_pytorchs(
    engine: Engine, reference: Session, name: str
) -> None:
    capture = engine.bundle.manifest.capture
    image = hard_images(capture.height, capture.width)[name]
    given, wanted = engine.run("prepare", {"image": image}), reference.run(image)
    for tensor in ("clean", "quality"):
        assert given[tensor].tobytes() == wanted[tensor].tobytes(), tensor


def test_forms_agree_with_pytorch_on_lesions(
    engine: Engine, reference: Session, request: pytest.FixtureRequest
) -> None:
    manifest = engine.bundle.manifest
    looser = ParityRecipe().of(request.node.callspec.params["engine"]).looser
    graded = [s.diagnosis for s in manifest.stages if s.diagnosis]
    for form in ("staged", "fused"):
        if not engine.has("pipeline" if form == "fused" else "prepare"):
            assert (engine.format, manifest.grader_variant) == ("litert", "separate")
            continue
        session = Session(engine, form)
        for number, dx in enumerate(manifest.taxonomy.classes):
            image = frame(synthetic.lesion(dx, number, hair=number % 2).image, manifest.capture)
            given = session.run(image, also_grade=graded)
            wanted = reference.run(image, also_grade=graded)
            for tensor in given:
                allowed = (1e-3 if tensor == "embedding" else 1e-5) * looser
                np.testing.assert_allclose(
                    given[tensor], wanted[tensor], rtol=0, atol=allowed, err_msg=tensor
                )
            for tensor in ("accepted", "reasons", "diagnosis"):
                assert given[tensor] == wanted[tensor], tensor


def test_severity_is_nan_exactly_when_nothing_is_graded(engine: Engine) -> None:
    manifest = engine.bundle.manifest
    graded = {manifest.taxonomy.index(s.diagnosis) for s in manifest.stages if s.diagnosis}
    seen = set()
    for form in ("staged", "fused"):
        if not engine.has("pipeline" if form == "fused" else "prepare"):
            continue
        session = Session(engine, form)
        for seed in range(12):
            dx = manifest.taxonomy.classes[seed % len(manifest.taxonomy.classes)]
            image = frame(synthetic.lesion(dx, seed).image, manifest.capture)
            tensors = session.run(image)
            routed = int(tensors["diagnosis"][0]) in graded
            seen.add(routed)
            assert np.isnan(tensors["severity"]).all() != routed
            if routed:
                assert tensors["severity"].sum() == pytest.approx(1.0, abs=1e-6)


def test_an_input_outside_the_contract_is_refused(engine: Engine) -> None:
    capture = engine.bundle.manifest.capture
    small = np.zeros((1, capture.height // 2, capture.width, 3), np.uint8)
    with pytest.raises(BundleError, match=r"image is uint8 .* the contract says"):
        engine.run("prepare", {"image": small})
    floating = np.zeros((1, capture.height, capture.width, 3), np.float32)
    with pytest.raises(BundleError, match="image is float32"):
        engine.run("prepare", {"image": floating})
    with pytest.raises(BundleError, match="needs 'image'"):
        engine.run("prepare", {})
    with pytest.raises(BundleError, match="no stage 'grade_df'"):
        engine.run("grade_df", {})


def test_it_runs_again_after_it_was_closed(engine: Engine, reference: Session) -> None:
    capture = engine.bundle.manifest.capture
    image = hard_images(capture.height, capture.width)["noise"]
    before = engine.run("prepare", {"image": image})["clean"].copy()
    engine.close()
    assert engine.run("prepare", {"image": image})["clean"].tobytes() == before.tobytes()


@pytest.mark.parametrize("name", ["onnxruntime", "litert"])
def test_a_grader_is_opened_when_it_is_first_routed_to(separate_bundle: Path, name: str) -> None:
    bundle = Bundle.open(separate_bundle)
    with runtimes.get(name).open(bundle) as engine:
        session = Session(engine)
        capture = bundle.manifest.capture
        opened = set()
        for seed in range(6):
            image = frame(synthetic.lesion("mel", seed, hair=0.0).image, capture)
            tensors = session.run(image)
            index = int(tensors["diagnosis"][0])
            if index >= 0:
                opened.add(f"grade_{bundle.manifest.taxonomy.classes[index]}")
        graders = {Path(p).stem for p in engine.opened() if "grade" in p}
        available = {s.name for s in bundle.manifest.stages if s.diagnosis}
        assert graders == opened & available
