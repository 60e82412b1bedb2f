"""Quantisation-aware training: a network learns to answer through int8 activations as in float.

While it learns, activations are rounded to 8 bits on their way forward, and gradients pass what is
rounded as if it were not (Jacob et al., 2018). No labels are needed: what is to be matched are the
network's own embedding and logits in float (Hinton et al., 2015, "distillation"). Batch norm is
folded, so its statistics stay. Weights are float here, and rounded by photos afterwards; they are
learnt in steps of their channel's int8 scale, so that one learning rate does for every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from classkinfy_export.errors import ExportError
from classkinfy_export.quantization import blocks, ranges
from classkinfy_export.quantization.folding import cut_by_relu, plain, reading_pixels
from classkinfy_export.quantization.ranges import Range, Ranges
from classkinfy_export.quantization.rounding import LEVELS
from classkinfy_export.recipes import QatRecipe
from classkinfy_export.stages.network import Network

_EXCITATION = ".se."
"""In the names of what is in a squeeze-and-excite branch."""
_SQUEEZED = ".se.conv_reduce"
"""Ends the name of what reads a branch's mean."""
_GIVING = (nn.ReLU, nn.ReLU6, nn.SiLU)
_BATCH = 8
_CODES = 255
_HELD_OUT = 4
_FEWEST = 11
"""Photos, of which every fourth is held out, for one batch."""
_LEAST = 1e-12
"""Of a power that noise is told of: a head may give zeros."""


class Noise(NamedTuple):
    """What int8 activations did to a network, over photos, of the power of what it gives."""

    before: float
    """Its training."""
    after: float
    """NaN or infinite, where it diverged."""

    @property
    def less(self) -> bool:
        """Whether training was of use; the network is as it was, otherwise."""
        return self.after < self.before


class _Steps(nn.Module):
    """Weights in steps of their channel's int8 scale; a channel of zeros stays one."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
        self.register_buffer("scale", largest / LEVELS)
        self.scale: Tensor

    def forward(self, steps: Tensor) -> Tensor:
        return steps * self.scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / torch.where(self.scale > 0, self.scale, 1.0)


@dataclass(frozen=True)
class _Activation:
    """What has 8 bits in int8: what a module gives, or else what it reads."""

    name: str
    module: nn.Module
    given: bool

    def replace(self, by: Callable[[Tensor], Tensor]) -> RemovableHandle:
        """Put something else in its place, until the handle is left."""
        if self.given:
            return self.module.register_forward_hook(
                lambda _, __, output: by(output) if isinstance(output, Tensor) else output
            )
        return self.module.register_forward_pre_hook(lambda _, inputs: (by(inputs[0]), *inputs[1:]))


def train(
    network: Network,
    teacher: Network,
    levels: Sequence[Tensor],
    recipe: QatRecipe,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Noise:
    """Train a network for int8, in place; where that does not make noise less, leave it as it is.

    Args:
        network: batch norm folded; only weights of its convolutions change.
        teacher: the same, as it was trained in float.
        levels: float32 [1, 3, s, s], 0..255, one for each photo. Every fourth is what noise is
            measured on, and the others are trained on, mirrored and turned.
        recipe: how long, and how fast.
        report: called with (done, total) steps.

    Returns:
        noise before and after training; weights are not rounded in either.

    Raises:
        ExportError: there are too few photos, or nothing to train.
    """
    judged = levels[::_HELD_OUT]
    taught = [levels[place] for place in range(len(levels)) if place % _HELD_OUT]
    if len(taught) < _BATCH:
        raise ExportError(
            f"training for int8 needs {_FEWEST} photos, and has {len(levels)}",
            hint="give --calibration more, or leave qat out of the recipe",
        )
    network.requires_grad_(requires_grad=False)
    activations = list(_activations(network))
    seen = _ranges(network, activations, levels)
    convolutions = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d) and plain(m)]
    if not convolutions:
        raise ExportError(
            f"{network.spec.architecture} has no convolution that can be trained for int8",
            hint="leave qat out of the recipe",
        )
    weights = [convolution.weight.detach().clone() for convolution in convolutions]
    learnt = [_in_steps(convolution) for convolution in convolutions]
    steps = -(-len(taught) // _BATCH) * recipe.epochs
    optimiser = torch.optim.Adam(learnt, lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with ExitStack() as stack:
        for activation in activations:
            low, high = seen.get(activation.name, (0.0, 0.0))
            if low < high:
                stack.enter_context(activation.replace(_rounding((low, high))))
        before = _mean_distance(network, teacher, judged)
        for step, batch in enumerate(_batches(taught, recipe)):
            report(step, steps)
            optimiser.zero_grad()
            torch.autograd.backward(_distance(network, teacher, batch))
            optimiser.step()
            schedule.step()
        noise = Noise(before, _mean_distance(network, teacher, judged))
    for convolution, weight in zip(convolutions, weights, strict=True):
        parametrize.remove_parametrizations(convolution, "weight", leave_parametrized=True)
        if not noise.less:
            convolution.weight.data.copy_(weight)
    network.requires_grad_(requires_grad=False)
    return noise


def _in_steps(convolution: nn.Conv2d) -> Tensor:
    """Let a convolution's weights be learnt in steps, and return those."""
    parametrize.register_parametrization(convolution, "weight", _Steps(convolution.weight))
    steps: Tensor = convolution.get_parameter("parametrizations.weight.original")
    return steps.requires_grad_()


def _distance(network: Network, teacher: Network, levels: Tensor) -> Tensor:
    """Return how far a network's embedding and logits are from its teacher's, by their power."""
    with torch.no_grad():
        wanted = teacher.embed(levels)
        logits = _centred(teacher.head(wanted))
    given = network.embed(levels)
    found = _centred(network.head(given))
    return _noise(given, wanted) + _noise(found, logits)


def _noise(given: Tensor, wanted: Tensor) -> Tensor:
    return (given - wanted).square().sum() / wanted.square().sum().clamp(min=_LEAST)


def _mean_distance(network: Network, teacher: Network, levels: Sequence[Tensor]) -> float:
    with torch.no_grad():
        return float(np.mean([float(_distance(network, teacher, photo)) for photo in levels]))


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=1, keepdim=True)


def _activations(network: Network) -> Iterator[_Activation]:
    """Give what formats make int8: what convolutions read and give, activations and blocks give.

    Squeeze-and-excite branches are left out behind their mean, and what a ReLU cuts, for it is
    rounded behind that.
    So are pixels, which have 8 bits as they are.
    """
    parts = blocks.names(network)
    pixels, cut = reading_pixels(network), cut_by_relu(network)
    for name, module in network.backbone.named_modules():
        if _EXCITATION in name:
            if name.endswith(_SQUEEZED):
                yield _Activation(f"{name} reads", module, given=False)
            continue
        if not isinstance(module, nn.Conv2d):
            if isinstance(module, _GIVING) or name in parts:
                yield _Activation(f"{name} gives", module, given=True)
            continue
        if module not in pixels:
            yield _Activation(f"{name} reads", module, given=False)
        if module not in cut:
            yield _Activation(f"{name} gives", module, given=True)


def _ranges(
    network: Network, activations: Sequence[_Activation], levels: Sequence[Tensor]
) -> Ranges:
    """Take ranges as formats do."""
    values: dict[str, npt.NDArray[np.float32]] = {}

    def noting(name: str) -> Callable[[Tensor], Tensor]:
        def note(tensor: Tensor) -> Tensor:
            values[name] = tensor.numpy().copy()  # what activates it may do so in place
            return tensor

        return note

    def observe(image: Tensor) -> ranges.Values:
        network.embed(image)
        return values

    with ExitStack() as stack, torch.no_grad():
        for activation in activations:
            stack.enter_context(activation.replace(noting(activation.name)))
        taken, _ = ranges.take([lambda: map(observe, levels)])
    return taken


def _rounding(bounds: Range) -> Callable[[Tensor], Tensor]:
    """Return what rounds to 8 bits, and lets gradients of what is not cut pass."""
    low, high = bounds
    step = (high - low) / _CODES
    zero = round(-low / step)
    return lambda tensor: torch.fake_quantize_per_tensor_affine(tensor, step, zero, 0, _CODES)


def _batches(levels: Sequence[Tensor], recipe: QatRecipe) -> Iterator[Tensor]:
    """Give every photo once an epoch, in a shuffled order, mirrored and turned."""
    chance = np.random.default_rng(recipe.seed)
    for _ in range(recipe.epochs):
        order = chance.permutation(len(levels))
        for start in range(0, len(order), _BATCH):
            turned = []
            for place in order[start : start + _BATCH]:
                image = torch.rot90(levels[place], int(chance.integers(4)), (2, 3))
                turned.append(image.flip(3) if chance.integers(2) else image)
            yield torch.cat(turned)
