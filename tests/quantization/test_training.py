"""Quantisation-aware training, judged by the int8 file that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from embedding import Embedding, spec
from torch import Tensor, nn

from classkinfy_export import recipes
from classkinfy_export.contract import NetworkSpec
from classkinfy_export.data import synthetic
from classkinfy_export.errors import ExportError, RecipeError
from classkinfy_export.formats.onnx import graph
from classkinfy_export.formats.onnx import quantize as onnx_static
from classkinfy_export.quantization import ranges, training
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.folding import fold, input_range
from classkinfy_export.quantization.ranges import Ranges, Shifts, Values
from classkinfy_export.quantization.rounding import round_weights
from classkinfy_export.recipes import ExportRecipe, QatRecipe
from classkinfy_export.stages.network import Network

LEARNING = QatRecipe(epochs=20, learning_rate=0.01)
TOO_WIDE = 8.0
SIDE = 64

Halves = Sequence[Callable[[], Iterable[Values]]]


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    """Ten of each of seven classes, one after the other; what is learnt on the first 42 is judged
    on the rest."""
    drawn = [
        synthetic.lesion(dx, seed, height=SIDE, width=SIDE).image
        for seed, dx in enumerate(synthetic.CLASSES * 10)
    ]
    return [torch.from_numpy(i).permute(2, 0, 1)[None].float() for i in drawn]


def made(architecture: str) -> Network:
    torch.manual_seed(0)
    half, outputs = (0.5, 0.5, 0.5), len(synthetic.CLASSES)
    return Network(
        NetworkSpec(
            architecture=architecture, input_size=SIDE, outputs=outputs, mean=half, std=half
        )
    )


@pytest.fixture(scope="module")
def network(photos: list[Tensor]) -> Network:
    """A small one, trained for a few seconds."""
    network = made("test_efficientnet").train()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(200):
        some = torch.randperm(42)[:16]
        logits = network(torch.cat([photos[place] for place in some]))
        loss = nn.functional.cross_entropy(logits, some % len(synthetic.CLASSES))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return network.eval().requires_grad_(requires_grad=False)


@contextmanager
def wide_ranges() -> Iterator[None]:
    """Take ranges that are too wide, as outliers make them: a small network has little noise."""
    take = ranges.take

    def taken(halves: Halves) -> tuple[Ranges, Shifts]:
        found, shifts = take(halves)
        return {name: (TOO_WIDE * of[0], TOO_WIDE * of[1]) for name, of in found.items()}, shifts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "take", taken)
        yield


@pytest.fixture(scope="module")
def learnt(network: Network, photos: list[Tensor]) -> Network:
    result = fold(network)
    with wide_ranges():
        assert training.train(result, network, photos[:42], LEARNING).less
    return result


def quantised(network: Network, photos: list[Tensor]) -> tuple[onnx.ModelProto, Ranges]:
    """Return int8 of a network, and its ranges."""
    model = graph.export(Embedding(network), spec(network), 18)
    seen = onnx_static.observe(model, Feeds({"levels": photo.numpy()} for photo in photos))
    return onnx_static.quantize(model, seen, input_range(network), float_excitation=True)


def noise(network: Network, teacher: Network, photos: list[Tensor], judged: list[Tensor]) -> float:
    """Return the energy of int8's error in the embedding, over that of the embedding."""
    made, _ = quantised(network, photos)
    options = onnxruntime.SessionOptions()
    # Its int8 kernels for x86 without VNNI saturate.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options)
    found = np.concatenate([session.run(None, {"levels": p.numpy()})[0] for p in judged])
    with torch.no_grad():
        right = teacher.embed(torch.cat(judged)).numpy()
    return float(((found - right) ** 2).sum() / (right**2).sum())


def test_a_trained_network_is_nearer_its_float_self_in_int8(
    network: Network, learnt: Network, photos: list[Tensor]
) -> None:
    noises = []
    for source in (network, learnt):
        rounded = fold(source)
        round_weights(rounded, photos[:42])
        with wide_ranges():
            noises.append(noise(rounded, network, photos[:42], photos[42:]))
    assert noises[1] < 0.8 * noises[0]


@pytest.mark.parametrize("architecture", ["test_efficientnet", "mobilenetv2_035"])
def test_what_is_rounded_in_training_is_rounded_in_the_file(
    architecture: str, photos: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = made(architecture).train()
    for _ in range(20):  # so that batch norm has seen them
        network(torch.cat(photos[:16]))
    network.eval()
    rounded: set[float] = set()

    def watch(tensor: Tensor, scale: float, zero: int, low: int, high: int) -> Tensor:
        assert (low, high) == (0, 255)
        rounded.add(scale)
        return tensor

    monkeypatch.setattr("torch.fake_quantize_per_tensor_affine", watch)
    folded = fold(network)
    _, found = quantised(folded, photos[:16])
    training.train(folded, network, photos[:16], QatRecipe(epochs=1))
    # Pixels have their 8 bits; formats without a swish multiply by a sigmoid, between 0 and 1.
    others = {
        bounds
        for bounds in found.values()
        if bounds != input_range(folded) and not (bounds[0] == 0.0 and 0.5 < bounds[1] <= 1.0)
    }
    file = {(high - low) / 255 for low, high in others if low < high}
    both = [np.array(sorted(scales)) for scales in (rounded, file)]
    for one, other in (both, both[::-1]):
        apart = np.abs(one[:, None] / other - 1.0).min(axis=1)
        assert apart.max() < 0.01, one[apart.argmax()]


def test_only_weights_of_convolutions_are_learnt(network: Network, learnt: Network) -> None:
    before, after = fold(network).state_dict(), learnt.state_dict()
    assert before.keys() == after.keys()
    weights = {
        f"{name}.weight" for name, module in learnt.named_modules() if isinstance(module, nn.Conv2d)
    }
    assert {
        name for name, value in before.items() if not torch.equal(value, after[name])
    } == weights
    assert not any(parameter.requires_grad for parameter in learnt.parameters())


def test_photos_and_seed_decide_what_is_learnt(network: Network, photos: list[Tensor]) -> None:
    """As the noise that it leaves tells, to the last bit."""
    noises = []
    for seed in (0, 0, 1):
        recipe = LEARNING.model_copy(update={"epochs": 5, "seed": seed})
        with wide_ranges():
            noises.append(training.train(fold(network), network, photos[:42], recipe))
    assert noises[0] == noises[1]
    assert noises[0].before == noises[2].before
    assert noises[0].after != noises[2].after


def test_a_network_that_training_makes_noisier_is_left_as_it_was(
    network: Network, photos: list[Tensor]
) -> None:
    folded = fold(network)
    recipe = QatRecipe(epochs=1, learning_rate=1.0)
    assert not training.train(folded, network, photos[:16], recipe).less
    before, after = fold(network).state_dict(), folded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_channels_of_zeros_stay(network: Network, photos: list[Tensor]) -> None:
    folded = fold(network)
    convolution = next(m for m in folded.backbone.modules() if isinstance(m, nn.Conv2d))
    convolution.weight.data[3] = 0.0
    before = convolution.weight.clone()
    with wide_ranges():
        assert training.train(folded, network, photos[:42], LEARNING).less
    assert not bool(convolution.weight[3].any())
    assert not torch.equal(convolution.weight[2], before[2])


def test_blocks_that_give_lists_are_no_error(photos: list[Tensor]) -> None:
    network = made("selecsls42b").eval()
    folded = fold(network)
    training.train(folded, network, photos[:11], QatRecipe(epochs=1))


def test_too_few_photos_to_learn_from_are_refused(network: Network, photos: list[Tensor]) -> None:
    with pytest.raises(ExportError, match="needs 11 photos, and has 10"):
        training.train(fold(network), network, photos[:10], LEARNING)


def test_training_for_int8_without_int8_is_refused() -> None:
    with pytest.raises(RecipeError, match="qat trains for int8"):
        recipes.parse({"precisions": ["fp32"], "qat": {"epochs": 1}}, ExportRecipe)


def test_weights_that_are_trained_for_int8_activations_are_no_others() -> None:
    precisions = ["fp32", "weight_only_wi8_afp32", "static_wi8_ai8"]
    with pytest.raises(RecipeError, match="leave out either"):
        recipes.parse({"precisions": precisions, "qat": {"epochs": 1}}, ExportRecipe)
