"""Blocks of a network, by timm's names: what can stay in float beside int8.

::

    conv_stem   blocks.0.0   blocks.1.0  blocks.1.1   …   conv_head
                └ blocks.0 ┘ └──── blocks.1 ────┘
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping

from torch import nn

from classkinfy_export.errors import RecipeError
from classkinfy_export.precision import calibrated, float_excitation
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.network import Network


def names(network: Network) -> tuple[str, ...]:
    """Return the least parts that make sense alone: of a network's sequences, what they hold."""
    return tuple(_parts(network.backbone, ""))


def has_excitation(network: Network) -> bool:
    """Whether a network has squeeze-and-excite branches."""
    modules = network.backbone.named_modules()
    return any(name.endswith(".se") and convolves(module) for name, module in modules)


def convolves(module: nn.Module) -> bool:
    """Whether a module is a convolution, or has one in it."""
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


def check(networks: Mapping[str, Network], recipe: ExportRecipe) -> None:
    """Check that networks have what a recipe wants in float, where it wants anything in int8.

    Args:
        networks: by stage.
        recipe: with ``float_blocks``.

    Raises:
        RecipeError: there is no such stage, or its network has no such block that convolves,
            or nothing but such blocks; or none has the squeeze-and-excite branches of a precision.
    """
    if not any(map(calibrated, recipe.precisions)):
        return
    excited = [precision for precision in recipe.precisions if float_excitation(precision)]
    if excited and not any(map(has_excitation, networks.values())):
        raise RecipeError(
            f"{excited[0]}: no network has squeeze-and-excite branches to leave in float",
            hint="take static_wi8_ai8",
        )
    for stage, format_name in itertools.product(recipe.float_blocks, recipe.formats):
        if stage not in networks:
            raise RecipeError(
                f"float_blocks: no stage {stage!r} has a network",
                hint=f"those that have one: {', '.join(networks)}",
            )
        network, wanted = networks[stage], recipe.blocks_in_float(stage, format_name)
        modules = network.backbone.named_modules()
        known = [name for name, module in modules if name and convolves(module)]
        for block in wanted:
            if block not in known:
                near = difflib.get_close_matches(block, known, 3) or names(network)
                raise RecipeError(
                    f"float_blocks: {network.spec.architecture} has no block {block!r} that "
                    f"convolves, for {stage}",
                    hint=f"it has {', '.join(near)}, for instance; or --set 'float_blocks={{}}'",
                )
        parts = names(network)
        if all(any(f"{part}.".startswith(f"{block}.") for block in wanted) for part in parts):
            raise RecipeError(
                f"float_blocks: nothing of {stage} is left for int8",
                hint="take weight_only_wi8_afp32",
            )


def _parts(module: nn.Module, prefix: str) -> Iterator[str]:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential):
            yield from _parts(child, f"{prefix}{name}.")
        elif convolves(child):
            yield f"{prefix}{name}"
