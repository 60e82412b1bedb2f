"""A network made ready for int8: batch norm in the convolutions, pixels on the grid."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.hooks import RemovableHandle

from classkinfy_export.errors import ExportError
from classkinfy_export.stages.network import Network

_WHITE = 255.0
_SAME = 1e-3
"""Of the embedding: how far a folded network may be from what it was."""


def plain(module: nn.Module) -> bool:
    """Whether a module convolves with the very weights that it holds, padded with zeros."""
    return (
        type(module) in (nn.Conv2d, Conv2dSame)
        and getattr(module, "padding_mode", "") == "zeros"
        and not isinstance(getattr(module, "padding", ""), str)
    )


def input_range(network: Network) -> tuple[float, float]:
    """Return what a normalised pixel can be, black to white, whatever photos hold."""
    black, white = network.shift, network.scale * _WHITE + network.shift
    return float(black.min()), float(white.max())


def align(network: Network) -> None:
    """Shift a network's pixels, in place, so that 8 bits hold them as they are.

    Where black is -1 and white is 1, zero, which borders are padded with, lies between the levels
    127 and 128. An int8 scale has a code for zero, and every pixel would lie between two codes,
    rounded by half a level. They are shifted by that half level, and the first bias takes it back;
    only at the border, which pads with the level 128 then, is the network another one.

    Args:
        network: batch norm folded. One whose channels are scaled unequally is left as it is: no
            scale that they share holds all their levels; and so is one whose pixels go elsewhere
            than into one convolution.
    """
    steps = network.scale.flatten()
    zeros = -network.shift.flatten() / steps
    if float(steps.max() - steps.min()) > 0.0 or float(zeros.max() - zeros.min()) > 0.0:
        return
    step, level = steps[0], torch.floor(zeros[0] + 0.5)
    moved = -level * step - network.shift.flatten()[0]
    reading = reading_pixels(network)
    first = reading[0] if len(reading) == 1 else None
    if not isinstance(first, nn.Conv2d) or not plain(first) or first.bias is None:
        return
    with torch.no_grad():
        network.shift += moved
        first.bias -= (first.weight.double().sum(dim=(1, 2, 3)) * moved).float()


def fold(network: Network) -> Network:
    """Return a copy whose batch norms are folded into the convolutions before them.

    Args:
        network: left as it is.

    Raises:
        ExportError: the network is another one then, for it uses what a norm reads elsewhere too.
    """
    folded = copy.deepcopy(network).eval()
    for parent, name, norm, convolution in list(_normalised(folded)):
        fused = fuse_conv_bn_eval(convolution, norm)
        convolution.weight, convolution.bias = fused.weight, fused.bias
        rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part]
        setattr(parent, name, nn.Sequential(*rest))
    side = network.spec.input_size
    levels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * _WHITE
    with torch.no_grad():
        before, after = network.embed(levels), folded.embed(levels)
    away = float((after - before).norm() / before.norm())
    if not away <= _SAME:
        raise ExportError(
            f"{network.spec.architecture} is another network with batch norm folded: its embedding "
            f"differs by {away:.1%}",
            hint="leave int8 out of precisions; fp16 needs no folding",
        )
    return folded


def reading_pixels(network: Network) -> list[nn.Module]:
    """Return the modules that read the normalised pixels themselves."""
    given: list[Tensor] = []
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module is network.backbone:
            given.append(inputs[0])
        elif not any(module.children()) and inputs and inputs[0] is given[0]:
            found.append(module)

    _run(network, [m.register_forward_pre_hook(note) for m in network.backbone.modules()])
    return found


def cut_by_relu(network: Network) -> list[nn.Module]:
    """Return the convolutions whose outputs a ReLU reads: with it they are one operator in int8."""
    given: dict[int, tuple[nn.Module, Tensor, int]] = {}
    found: list[nn.Module] = []

    def give(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # Held, so that no id is given twice; the version tells whether it was added to in place.
        given[id(output)] = (module, output, output._version)

    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        source = given.get(id(inputs[0]))
        if source is not None and source[2] == inputs[0]._version:
            found.append(source[0])

    modules = list(network.backbone.modules())
    hooks = [m.register_forward_hook(give) for m in modules if isinstance(m, nn.Conv2d)]
    relus = [m for m in modules if isinstance(m, nn.ReLU | nn.ReLU6)]
    _run(network, [*hooks, *(m.register_forward_pre_hook(read) for m in relus)])
    return found


def _normalised(network: Network) -> Iterator[tuple[nn.Module, str, nn.BatchNorm2d, nn.Conv2d]]:
    """Find batch norms that read a convolution's output: parent, name, norm, convolution."""
    written: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: dict[nn.Module, nn.Conv2d] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            if plain(module):
                written[id(output)] = (module, output)  # held, so that no id is given twice
        elif id(inputs[0]) in written:
            pairs[module] = written[id(inputs[0])][0]

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    _run(
        network,
        [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)],
    )
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child in pairs:
                yield parent, name, child, pairs[child]


def _run(network: Network, hooks: list[RemovableHandle]) -> None:
    """Run a network once, on black, and remove the hooks that watched it."""
    side = network.spec.input_size
    try:
        with torch.no_grad():
            network.embed(torch.zeros(1, 3, side, side))
    finally:
        for hook in hooks:
            hook.remove()
