"""Means over planes: the same numbers, the same weights, and sums that half precision can hold."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.stages.network import Network
from classkinfy_export.stages.pooling import MOST_TERMS, PlaneMean, SqueezeExcite, plane_mean


def added(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Add [c, n] up over n in half precision, as a group of 64 threads does.

    Each thread adds every 64th term, one after the other; then halves of the group add theirs.
    (A single accumulator would not overflow: from 32,768 on, 9 is less than half its step.)

    Returns:
        float16 [c], and the largest magnitude of any partial sum.
    """
    terms = values.astype(np.float16)
    terms = np.pad(terms, ((0, 0), (0, -terms.shape[1] % 64))).reshape(len(terms), -1, 64)
    with np.errstate(over="ignore"):
        partial = np.cumsum(terms, axis=1, dtype=np.float16)
        largest, group = float(np.abs(partial).max()), partial[:, -1]
        while group.shape[1] > 1:
            half = group.shape[1] // 2
            group = group[:, :half] + group[:, half:]
            largest = max(largest, float(np.abs(group).max()))
    return group[:, 0], largest


@pytest.fixture(scope="module")
def original() -> nn.Module:
    """A network of timm alone, whose first squeeze sees six channels of 9, as trained ones' are."""
    torch.manual_seed(0)
    network = timm.create_model("efficientnet_b0", num_classes=0).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of what it sees keep signals alive
    with torch.no_grad():
        network(normalised(levels(8, seed=4)))
        network.blocks[0][0].bn1.bias[:6] = 9.0
        network(normalised(levels(8, seed=4)))
    return network.eval()


def levels(images: int, seed: int) -> Tensor:
    """Pixels of smooth pictures with some noise."""
    generator = torch.manual_seed(seed)
    coarse = torch.rand(images, 3, 6, 6, generator=generator) * 200.0
    smooth = nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")
    return (smooth + torch.rand(images, 3, 224, 224, generator=generator) * 55.0).round()


def normalised(pixels: Tensor) -> Tensor:
    spec = NetworkSpec(architecture="efficientnet_b0", input_size=224, outputs=7)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return (pixels / 255.0 - mean) / std


def spied(network: nn.Module, kind: type, pixels: Tensor) -> list[np.ndarray]:
    """What the modules of a kind are given: float32 [c, h, w] each."""
    seen: list[np.ndarray] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].numpy().copy()))
        for module in network.modules()
        if type(module) is kind
    ]
    network(pixels)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (16, 32), (19, 27), (112, 112), (150, 131)])
def test_the_mean_is_numpys_in_one_step_or_in_two(size: tuple[int, int]) -> None:
    planes = torch.randn(2, 5, *size, generator=torch.manual_seed(1)) * 9.0 + 4.0
    expected = planes.numpy().astype(np.float64).mean((2, 3), keepdims=True)
    found = plane_mean(planes)
    assert found.shape == (2, 5, 1, 1)
    # float32 adds in a tree: some roundings of a value of the sum's mean size.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_network_answers_as_timms_own_and_has_its_weights(original: nn.Module) -> None:
    network = Network(NetworkSpec(architecture="efficientnet_b0", input_size=224, outputs=7)).eval()
    assert list(network.backbone.state_dict()) == list(original.state_dict())
    network.backbone.load_state_dict(original.state_dict())
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(SqueezeExcite) == 16
    assert kinds.count(PlaneMean) == 1
    pixels = levels(2, seed=2)
    exact = copy.deepcopy(original).double()(normalised(pixels.double()))
    assert float(exact.std()) > 0.1, "answers that are all alike would show nothing"
    theirs = float((original(normalised(pixels)) - exact).abs().max())
    ours = float((network.embed(pixels) - exact).abs().max())
    assert 0.0 < ours <= 2.0 * theirs, "as near to float64 as timm's own float32 is"


@torch.no_grad()
def test_half_precision_overflows_in_timms_squeeze_and_not_in_ours(original: nn.Module) -> None:
    excite = next(m for m in original.modules() if type(m).__name__ == "SqueezeExcite")
    seen = spied(original, type(excite), normalised(levels(1, seed=3)))
    assert len(seen) == 16
    overflown = []
    for planes in seen:
        assert np.abs(planes).max() < 100.0, "plausible values, every one"
        whole, _ = added(planes.reshape(len(planes), -1))
        overflown.append(int((~np.isfinite(whole)).sum()))
        if planes[0].size <= MOST_TERMS:
            continue
        channels, height, width = planes.shape
        columns, largest = added(planes.transpose(0, 2, 1).reshape(-1, height))
        assert largest * 8 < 65504.0, "with room for eight times as much"
        averages = (columns / np.float16(height)).reshape(channels, width)
        rows, largest = added(averages)
        assert largest * 8 < 65504.0
        means = (rows / np.float16(width)).astype(np.float64)
        expected = planes.astype(np.float64).mean((1, 2))
        np.testing.assert_allclose(means, expected, rtol=0.005, atol=0.005)
    assert overflown == [6] + [0] * 15, "the six channels, in the first squeeze"


@torch.no_grad()
def test_the_network_averages_in_the_steps_that_were_shown_to_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[tuple[tuple[int, ...], int]] = []
    mean = Tensor.mean

    def recorded(self: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
        axes = (dim,) if isinstance(dim, int) else dim
        taken.append((tuple(self.shape), int(np.prod([self.shape[a] for a in axes]))))
        return mean(self, dim, keepdim=keepdim)

    monkeypatch.setattr(Tensor, "mean", recorded)
    spec = NetworkSpec(architecture="efficientnet_b3", input_size=300, outputs=7)
    Network(spec).eval()(torch.zeros(1, 3, 300, 300))
    assert len(taken) >= 27
    assert ((1, 40, 150, 150), 150) in taken
    assert max(terms for _, terms in taken) <= MOST_TERMS
