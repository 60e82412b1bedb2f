"""Where profiles fit into a pipeline, and where they are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from classkinfy_export.contract import SCREEN_VERSION, Capture, WorkingSize
from classkinfy_export.errors import CheckpointError, RecipeError
from classkinfy_export.jobs.export import Sources
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.assembly import Assembly, assemble
from classkinfy_export.stages.checkpoint import Checkpoint, CheckpointInfo, weights_sha256
from classkinfy_export.stages.screen import Profiles
from classkinfy_export.taxonomy import Taxonomy

CAPTURE = Capture(height=96, width=128)


def build(sources: Sources, screen: Checkpoint | None, *outputs: str) -> Assembly:
    return assemble(
        sources.classifier,
        sources.graders,
        screen=screen,
        capture=CAPTURE,
        hair_removal=True,
        rules=(),
        pipeline_outputs=outputs,
    )


@pytest.fixture
def sources(checkpoints: Callable[[str], Sources]) -> Sources:
    return checkpoints("trunk")


def other(sources: Sources, **changes: object) -> Checkpoint:
    assert sources.screen is not None
    info = sources.screen.info.model_copy(update=changes)
    return dataclasses.replace(sources.screen, info=info)


def test_a_pipeline_gives_what_the_stage_gives(sources: Sources) -> None:
    assembly = build(sources, sources.screen, "clean", "lesion_mask")
    image = torch.randint(0, 256, (1, 96, 128, 3), dtype=torch.uint8)
    given = assembly.pipeline(image)
    staged = assembly.modules["screen"](assembly.modules["prepare"](image)["clean"])
    for name in ("preliminary", "lesion_mask"):
        assert torch.equal(given[name], staged[name])
    features = build(sources, sources.screen, "features").pipeline(image)["features"]
    assert torch.equal(features, staged["features"])
    names = [tensor.name for tensor in assembly.pipeline_spec.outputs]
    assert names[-2:] == ["clean", "lesion_mask"]
    assert set(names) == set(given)


def test_without_profiles_there_is_no_instant_answer(sources: Sources) -> None:
    with pytest.raises(CheckpointError, match="heads on the trunk grade by what the screen"):
        build(sources, None)
    sources = dataclasses.replace(sources, graders={})
    assembly = build(sources, None)
    assert "screen" not in assembly.modules
    assert "preliminary" not in {tensor.name for tensor in assembly.pipeline_spec.outputs}
    for name in ("lesion_mask", "features"):
        with pytest.raises(RecipeError, match=name):
            build(sources, None, name)


def test_profiles_of_something_else_are_refused(sources: Sources) -> None:
    with pytest.raises(CheckpointError, match="given as screen is a classifier"):
        build(sources, sources.classifier)
    assert sources.screen is not None
    with pytest.raises(CheckpointError, match="given as classifier is a screen"):
        assemble(sources.screen, {}, capture=CAPTURE, hair_removal=True, rules=())
    renamed = Taxonomy(classes=("a", "b"), graded=(), malignant=(), names={})
    with pytest.raises(CheckpointError, match="the screen's classes are a, b"):
        build(sources, other(sources, taxonomy=renamed))
    with pytest.raises(CheckpointError, match="fitted on images of 450x600"):
        build(sources, other(sources, working_size=WorkingSize(height=450, width=600)))


def test_profiles_come_back_from_their_file() -> None:
    profiles = Profiles(7).eval()
    info = CheckpointInfo(role="screen", taxonomy=Taxonomy(), screen_version=SCREEN_VERSION)
    saved = checkpoint.to_bytes(Checkpoint(info, profiles, weights_sha256(profiles)))
    loaded = checkpoint.from_bytes(saved, "screen.safetensors")
    assert loaded.info == info
    assert isinstance(loaded.module, Profiles)
    features = torch.randn(3, profiles.mean.numel())
    assert torch.equal(loaded.module(features), profiles(features))


def test_profiles_of_features_that_are_measured_otherwise_now_are_refused() -> None:
    for version in (None, SCREEN_VERSION - 1):
        with pytest.raises(ValueError, match=f"of version {version}.*classkinfy train"):
            CheckpointInfo(role="screen", taxonomy=Taxonomy(), screen_version=version)


def test_a_screen_has_no_network_and_a_classifier_has() -> None:
    with pytest.raises(ValueError, match="needs 'network'"):
        CheckpointInfo(role="classifier", taxonomy=Taxonomy())
    profiles = Profiles(3)
    info = CheckpointInfo(role="screen", taxonomy=Taxonomy(), screen_version=SCREEN_VERSION)
    with pytest.raises(CheckpointError, match="profiles of 7 classes"):
        checkpoint.build(info, profiles.state_dict(), "screen.safetensors")
