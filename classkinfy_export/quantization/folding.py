"""A network made ready for int8: batch norm in the convolutions, pixels on the grid."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from classkinfy_export.stages.network import Network

_WHITE = 255.0


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
            scale that they share holds all their levels.
    """
    steps = network.scale.flatten()
    zeros = -network.shift.flatten() / steps
    if float(steps.max() - steps.min()) > 0.0 or float(zeros.max() - zeros.min()) > 0.0:
        return
    step, level = steps[0], torch.floor(zeros[0] + 0.5)
    moved = -level * step - network.shift.flatten()[0]
    first = next(m for m in network.backbone.modules() if isinstance(m, nn.Conv2d))
    assert first.bias is not None
    with torch.no_grad():
        network.shift += moved
        first.bias -= (first.weight.double().sum(dim=(1, 2, 3)) * moved).float()


def fold(network: Network) -> Network:
    """Return a copy whose batch norms are folded into the convolutions before them.

    Args:
        network: left as it is.
    """
    folded = copy.deepcopy(network).eval()
    for parent, name, norm, convolution in list(_normalised(folded)):
        fused = fuse_conv_bn_eval(convolution, norm)
        convolution.weight, convolution.bias = fused.weight, fused.bias
        rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part]
        setattr(parent, name, nn.Sequential(*rest))
    return folded


def _normalised(network: Network) -> Iterator[tuple[nn.Module, str, nn.BatchNorm2d, nn.Conv2d]]:
    """Find batch norms that read a convolution's output: parent, name, norm, convolution."""
    written: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: dict[nn.Module, nn.Conv2d] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            written[id(output)] = (module, output)  # held, so that no id is given twice
        elif id(inputs[0]) in written:
            pairs[module] = written[id(inputs[0])][0]

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    side = network.spec.input_size
    try:
        with torch.no_grad():
            network.embed(torch.zeros(1, 3, side, side))
    finally:
        for hook in hooks:
            hook.remove()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child in pairs:
                yield parent, name, child, pairs[child]
