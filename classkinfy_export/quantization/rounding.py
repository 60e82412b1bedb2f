"""Weights rounded to int8 by what they do to images, not each to the nearest.

Of a convolution with weights W and inputs x, the rounded weights Q are sought for which
(W - Q) x varies least over the photos; its mean goes into the bias. Weights are taken one after
the other, and what rounding one has done is made good by those still to come (Frantar et al.,
2022, "GPTQ", after Hassibi and Stork's optimal brain surgeon, 1993). Depthwise kernels gain most:
the nine inputs that a kernel sees are nearly equal, so that errors add up where they could cancel.

Q is kept as float weights that lie on the int8 grid, the largest of each channel at its end. Every
format's own rounding, symmetric and by channel, then finds these very integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from classkinfy_export.quantization.folding import plain
from classkinfy_export.stages.network import Network

LEVELS = 127
"""Of a weight's magnitude."""
_DAMPING = 0.01
"""Of the mean variance, added to each: inputs that no photo tells apart."""
_NOISE = 1e-6
"""Of the mean square: what float32 inputs vary by, where they do not."""
_LEAST = 1e-12
_BLOCK = 64
_POSITIONS = 400
"""Of a layer, in each photo, about so many are looked at."""


class _Seen(NamedTuple):
    """Sums over what a convolution's kernels saw, by group."""

    positions: int
    sums: Tensor
    """float64 [groups, k]."""
    products: Tensor
    """float64 [groups, k, k]."""


def round_weights(network: Network, levels: Iterable[Tensor]) -> None:
    """Put the weights of a network's convolutions on the int8 grid, in place.

    Args:
        network: batch norm folded.
        levels: float32 [1, 3, s, s], 0..255, one for each calibration photo.
    """
    convolutions = [
        m
        for m in network.backbone.modules()
        if isinstance(m, nn.Conv2d) and plain(m) and m.dilation == (1, 1)
    ]
    for convolution, seen in _watch(network, convolutions, levels).items():
        mean = seen.sums / seen.positions
        # The bias takes the mean of the error, so only what varies is to be made small.
        variation = seen.products / seen.positions - mean[:, :, None] * mean[:, None, :]
        alone = variation.diagonal(dim1=1, dim2=2).clamp(min=0.0)
        if seen.positions < mean.shape[1]:  # too few to tell how inputs vary together
            variation = torch.diag_embed(alone)
        weight = convolution.weight.detach().double()
        grouped = weight.reshape(convolution.groups, -1, mean.shape[1])
        floor = _NOISE * (mean**2).mean(dim=1)
        damped = torch.maximum(_DAMPING * alone.mean(dim=1), floor) + _LEAST
        variation = variation + damped[:, None, None] * torch.eye(mean.shape[1])
        quantised = _round(grouped, variation)
        with torch.no_grad():
            error = ((grouped - quantised) * mean[:, None, :]).sum(dim=2).reshape(-1)
            convolution.weight.copy_(quantised.reshape(weight.shape))
            if convolution.bias is None:
                convolution.bias = nn.Parameter(torch.zeros(len(error)))
            convolution.bias.add_(error.float())


def _round(weight: Tensor, variation: Tensor) -> Tensor:
    """Round weights, float64 [groups, outputs, k], by their inputs' covariance [groups, k, k]."""
    largest, place = weight.abs().max(dim=2, keepdim=True)
    step = torch.where(largest > 0, largest / LEVELS, 1.0)
    width = weight.shape[2]
    factor = torch.linalg.cholesky(torch.linalg.inv(variation), upper=True)
    rest, result = weight.clone(), torch.empty_like(weight)
    # The rest of a block is mended weight by weight, what is behind it once for all of the block.
    for start in range(0, width, _BLOCK):
        stop = min(start + _BLOCK, width)
        errors = torch.zeros_like(weight[:, :, start:stop])
        for column in range(start, stop):
            value = rest[:, :, column : column + 1]
            level = torch.round(value / step).clamp(-LEVELS, LEVELS)
            # The largest keeps its place: it is what formats take the scale from.
            pinned = torch.sign(weight[:, :, column : column + 1]) * LEVELS
            level = torch.where(place == column, pinned, level)
            result[:, :, column : column + 1] = level * step
            error = (value - level * step) / factor[:, None, column, column, None]
            rest[:, :, column + 1 : stop] -= error * factor[:, None, column, column + 1 : stop]
            errors[:, :, column - start : column - start + 1] = error
        rest[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return result


def _watch(
    network: Network, convolutions: list[nn.Conv2d], levels: Iterable[Tensor]
) -> dict[nn.Conv2d, _Seen]:
    """Sum what each convolution sees over the photos, in the order of the modules."""
    seen: dict[nn.Conv2d, _Seen] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        kernels = _kernels(module, inputs[0]).double()
        before = seen.get(module)
        count, sums = kernels.shape[2], kernels.sum(dim=2)
        products = kernels @ kernels.transpose(1, 2)
        if before is not None:
            count += before.positions
            sums, products = sums + before.sums, products + before.products
        seen[module] = _Seen(count, sums, products)

    hooks = [module.register_forward_pre_hook(note) for module in convolutions]
    try:
        with torch.no_grad():
            for image in levels:
                network.embed(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _kernels(convolution: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return what a convolution's kernels see: float32 [groups, k, positions]."""
    size, stride = convolution.kernel_size, convolution.stride
    padding = convolution.padding
    assert not isinstance(padding, str)
    if isinstance(convolution, Conv2dSame):
        # Padded as TensorFlow pads: unevenly, where the stride asks for it.
        inputs = pad_same(inputs, list(size), list(stride))
    else:
        inputs = F.pad(inputs, (padding[1], padding[1], padding[0], padding[0]))
    height = (inputs.shape[2] - size[0]) // stride[0] + 1
    width = (inputs.shape[3] - size[1]) // stride[1] + 1
    apart = max(1, round((height * width / _POSITIONS) ** 0.5))
    patches = F.unfold(inputs, size, stride=(stride[0] * apart, stride[1] * apart))
    return patches.reshape(convolution.groups, -1, patches.shape[2])
