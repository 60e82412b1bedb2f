"""Weights on the int8 grid, against NumPy's nearest rounding and PyTorch's own convolution."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.data import synthetic
from classkinfy_export.errors import ExportError
from classkinfy_export.quantization import rounding
from classkinfy_export.quantization.folding import align, fold, input_range
from classkinfy_export.quantization.rounding import round_weights
from classkinfy_export.stages.network import Network

SIDE = 64


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    classes = (*synthetic.CLASSES, *synthetic.CLASSES)[:10]
    drawn = [
        synthetic.lesion(dx, seed, height=SIDE, width=SIDE).image for seed, dx in enumerate(classes)
    ]
    return [torch.from_numpy(i).permute(2, 0, 1)[None].float() for i in drawn]


@pytest.fixture(scope="module", params=["tf_efficientnet_lite0", "efficientnet_b0"])
def network(request: pytest.FixtureRequest, photos: list[Tensor]) -> Network:
    """Untrained, but for batch norm's statistics: those of the photos."""
    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    made = Network(
        NetworkSpec(architecture=request.param, input_size=SIDE, outputs=7, mean=half, std=half)
    )
    made.train()
    with torch.no_grad():
        for _ in range(40):
            made(torch.cat(photos))
    return made.eval()


@pytest.fixture(scope="module")
def ours(network: Network, photos: list[Tensor]) -> Network:
    return rounded(network, photos[:6])


def rounded(network: Network, photos: list[Tensor]) -> Network:
    folded = fold(network)
    round_weights(folded, photos)
    return folded


def convolutions(network: Network) -> dict[str, nn.Conv2d]:
    named = network.backbone.named_modules()
    return {name: module for name, module in named if isinstance(module, nn.Conv2d)}


def noise(network: Network, other: Network, photos: list[Tensor]) -> float:
    """Return the energy of the embedding's error, relative to the embedding's."""
    with torch.no_grad():
        right = torch.cat([network.embed(photo) for photo in photos]).double()
        error = torch.cat([other.embed(photo) for photo in photos]).double() - right
    return float((error**2).sum() / (right**2).sum())


def test_a_folded_network_is_the_same_network(network: Network, photos: list[Tensor]) -> None:
    folded = fold(network)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert noise(network, folded, photos) < 1e-9


def test_rounded_weights_are_int8_and_keep_their_scale(network: Network, ours: Network) -> None:
    before, after = convolutions(fold(network)), convolutions(ours)
    for name, convolution in after.items():
        weight = convolution.weight.detach().numpy().astype(np.float64)
        scale = (
            np.abs(before[name].weight.detach().numpy()).max(axis=(1, 2, 3), keepdims=True) / 127
        )
        levels = weight / np.where(scale > 0, scale, 1)
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
        ends = np.abs(levels).max(axis=(1, 2, 3))
        np.testing.assert_allclose(ends, np.where(scale.ravel() > 0, 127, 0), atol=1e-3)


def test_they_do_less_to_other_photos_than_the_nearest_do(
    network: Network, ours: Network, photos: list[Tensor]
) -> None:
    nearest = fold(network)
    for convolution in convolutions(nearest).values():
        weight = convolution.weight.detach().numpy().astype(np.float64)
        scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
        with torch.no_grad():
            convolution.weight.copy_(torch.from_numpy(np.round(weight / scale) * scale))
    others = photos[6:]
    assert noise(network, ours, others) < 0.7 * noise(network, nearest, others)


@pytest.mark.parametrize("name", ["conv_stem", "blocks.1.0.conv_dw", "blocks.2.0.conv_pw"])
def test_the_kernels_seen_are_those_that_convolve(
    network: Network, photos: list[Tensor], name: str
) -> None:
    convolution = convolutions(network)[name]
    given: list[Tensor] = []
    hook = convolution.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        network.embed(photos[0])
        hook.remove()
        plain = copy.deepcopy(convolution)
        plain.bias = None
        wanted = plain(given[0])
    kernels = rounding._kernels(convolution, given[0])
    weight = convolution.weight.detach().reshape(convolution.groups, -1, kernels.shape[1])
    found = (weight @ kernels).reshape(wanted.shape[1], -1)
    apart = round((wanted[0, 0].numel() / found.shape[1]) ** 0.5)
    np.testing.assert_allclose(
        found.detach(), wanted[0, :, ::apart, ::apart].reshape(found.shape), atol=1e-4
    )


def test_aligned_pixels_have_codes_of_their_own(network: Network, photos: list[Tensor]) -> None:
    folded = fold(network)
    aligned = copy.deepcopy(folded)
    align(aligned)
    low, high = input_range(aligned)
    scale = (high - low) / 255
    levels = torch.arange(256.0).expand(1, 3, 256)[..., None]
    codes = ((levels * aligned.scale + aligned.shift) / scale).numpy()
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
    # But for the border it is the same network.
    stem = [convolutions(n)["conv_stem"](photos[0] * n.scale + n.shift) for n in (folded, aligned)]
    difference = (stem[0] - stem[1]).detach().abs()[:, :, 1:-1, 1:-1]
    assert float(difference.max()) < 1e-4


def test_photos_that_are_all_alike_are_no_error(network: Network, photos: list[Tensor]) -> None:
    alike = rounded(network, photos[:1] * 2)
    assert noise(network, alike, photos[:1]) < 0.1


def test_a_norm_that_is_read_beside_is_not_folded_in_silence() -> None:
    """In coatnet a shortcut reads what a norm reads too."""
    torch.manual_seed(0)
    made = Network(NetworkSpec(architecture="coatnet_pico_rw_224", input_size=224, outputs=7))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.5)
    with pytest.raises(ExportError, match="another network with batch norm folded"):
        fold(made.eval())


def test_pixels_that_two_convolutions_read_are_not_aligned() -> None:
    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    spec = NetworkSpec(architecture="repvgg_a0", input_size=SIDE, outputs=7, mean=half, std=half)
    folded = fold(Network(spec).eval())
    before = folded.shift.clone()
    align(folded)
    assert torch.equal(folded.shift, before)
