"""Where profiles fit into a pipeline, and what a classifier asks of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classkinfy_export.contract import SCREEN_VERSION, Capture, WorkingSize
from classkinfy_export.data import synthetic
from classkinfy_export.errors import CheckpointError, RecipeError
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.assembly import Assembly, assemble, trace
from classkinfy_export.stages.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    Pooling,
    weights_sha256,
)
from classkinfy_export.stages.classify import pooled
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


def alone(classifier: Checkpoint) -> Checkpoint:
    """Return a classifier that asks no screen."""
    return dataclasses.replace(
        classifier, info=classifier.info.model_copy(update={"pooling": None})
    )


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
    with pytest.raises(CheckpointError, match="there is no screen"):
        build(sources, None)
    sources = dataclasses.replace(sources, classifier=alone(sources.classifier))
    assembly = build(sources, None)
    assert [tensor.name for tensor in assembly.specs["classify"].inputs] == ["clean"]
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


def test_a_screen_that_the_classifier_was_not_trained_beside_is_refused(sources: Sources) -> None:
    assert sources.screen is not None
    foreign = copy.deepcopy(sources.screen.module)
    foreign.scale.fill_(0.06)
    screen = Checkpoint(sources.screen.info, foreign, weights_sha256(foreign))
    with pytest.raises(CheckpointError, match="of another run"):
        build(sources, screen)
    with pytest.raises(ValueError, match="asks no screen"):
        CheckpointInfo(
            role="screen",
            taxonomy=Taxonomy(),
            screen_version=SCREEN_VERSION,
            pooling=Pooling(screen_sha256=64 * "0", screen_weight=0.5),
        )


def test_the_screens_answer_to_a_power_is_multiplied_into_the_networks(
    sources: Sources,
) -> None:
    drawn = synthetic.lesion("mel", 1, height=96, width=128).image
    image = torch.from_numpy(drawn[None])
    answered = trace(build(sources, sources.screen), image)
    network = dataclasses.replace(sources, classifier=alone(sources.classifier))
    before = trace(build(network, sources.screen), image)
    assert sources.classifier.info.pooling is not None
    weight = sources.classifier.info.pooling.screen_weight
    seen = answered["preliminary"].double().numpy()
    product = before["probabilities"].double().numpy() * np.maximum(seen, 1e-4) ** weight
    wanted = product / product.sum()
    np.testing.assert_allclose(answered["probabilities"].numpy(), wanted, atol=1e-6)
    assert np.abs(wanted - before["probabilities"].numpy()).max() > 1e-3
    assert torch.equal(answered["embedding"], before["embedding"])


def test_a_screen_that_found_nothing_leaves_the_networks_answer() -> None:
    logits, unsure = torch.randn(20, 7), torch.full((20, 7), 1 / 7)
    after = torch.softmax(pooled(logits, unsure, 0.7), dim=1)
    torch.testing.assert_close(after, torch.softmax(logits, dim=1))
    sure = torch.eye(7)[torch.randint(7, (20,))]
    assert torch.isfinite(pooled(logits, sure, 1.0)).all(), "no class is ruled out"


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), weight=st.floats(0, 1))
def test_agreement_raises_confidence(seed: int, weight: float) -> None:
    torch.manual_seed(seed)
    logits, seen = torch.randn(1, 5), torch.softmax(2 * torch.randn(1, 5), dim=1)
    seen = torch.roll(seen, int(logits.argmax() - seen.argmax()), dims=1)
    before, after = (torch.softmax(x, dim=1) for x in (logits, pooled(logits, seen, weight)))
    assert after.argmax() == before.argmax()
    assert after.max() >= before.max() - 1e-6


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
