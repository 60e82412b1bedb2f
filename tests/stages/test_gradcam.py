"""Grad-CAM against the closed form that it has for a linear head on pooled features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from classkinfy_export.data import synthetic
from classkinfy_export.errors import CheckpointError
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.stages.classify import Classify
from classkinfy_export.stages.gradcam import grad_cam
from classkinfy_export.stages.network import Network

CLEAN = torch.from_numpy(synthetic.lesion("mel", 3, height=96, width=128, hair=0.0).image[None])


@pytest.fixture
def classify(checkpoints: Callable[[str], Sources]) -> Classify:
    network = checkpoints("trunk").classifier.module
    assert isinstance(network, Network)
    return Classify(network, (96, 128), embedding=False)


def test_with_a_linear_head_it_is_the_class_activation_map(classify: Classify) -> None:
    """Zhou et al. (2016): the last feature map, weighed by the class's row of the head."""
    maps: list[torch.Tensor] = []
    pool = classify.network.backbone.global_pool
    assert isinstance(pool, torch.nn.Module)
    hook = pool.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].detach()))
    classify(CLEAN)
    hook.remove()
    seen = 0
    for index, weights in enumerate(classify.network.head[0].weight.detach()):
        heat = np.maximum(np.tensordot(weights, maps[0][0], axes=1), 0.0)
        enlarged = torch.nn.functional.interpolate(
            torch.from_numpy(heat)[None, None], (96, 128), mode="bilinear"
        )
        wanted = enlarged[0, 0].numpy() / max(float(enlarged.max()), 1e-30)
        given = grad_cam(classify, CLEAN, index).numpy()
        assert given.shape == (96, 128)
        np.testing.assert_allclose(given, wanted, atol=1e-5)
        seen += int(given.max() == 1.0)
    assert seen >= 3


def test_it_needs_no_gradient_of_the_weights(classify: Classify) -> None:
    with torch.inference_mode(False), torch.no_grad():
        grad_cam(classify, CLEAN, 0)
    assert all(p.grad is None for p in classify.network.parameters())


def test_nothing_speaks_for_a_class_without_weights(classify: Classify) -> None:
    torch.nn.init.zeros_(classify.network.head[0].weight)
    assert not grad_cam(classify, CLEAN, 2).any()


def test_a_network_without_channels_first_is_refused(classify: Classify) -> None:
    backbone = classify.network.backbone
    backbone.forward_features = lambda _: torch.zeros(1, 4, 4, 256)  # as Swin gives it
    with pytest.raises(CheckpointError, match="test_efficientnet has no feature map"):
        grad_cam(classify, CLEAN, 0)
