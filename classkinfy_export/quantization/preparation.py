"""Stages made ready for int8: what every format converts and takes ranges from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classkinfy_export.quantization.calibration import CalibrationSet
from classkinfy_export.quantization.folding import align, input_range
from classkinfy_export.quantization.rounding import rounded
from classkinfy_export.stages.assembly import Assembly
from classkinfy_export.stages.classify import Classify
from classkinfy_export.stages.grade import GradeNetwork
from classkinfy_export.stages.network import Network, Offset

Embedding = npt.NDArray[np.float64]
"""Of some photos, their mean: [width]."""


@dataclass(frozen=True)
class Prepared:
    """What static precisions are made from."""

    assembly: Assembly
    """With networks made ready."""
    calibration: CalibrationSet
    """What ranges are taken from."""
    pixels: Mapping[str, tuple[float, float]]
    """By stage with a network: black and white, as it reads them."""
    embeddings: Mapping[str, Embedding]
    """By stage with a network: what it gives as it was trained, the mean over ``Feeds.few``."""


def prepare(
    assembly: Assembly, calibration: CalibrationSet, report: Callable[[int], None]
) -> Prepared:
    """Fold batch norm, round weights, align pixels and take off what that adds, in a copy.

    Args:
        assembly: left as it is.
        calibration: what weights are rounded by, too.
        report: called with the number of networks done, before each.
    """
    result = copy.deepcopy(assembly)
    pixels, embeddings = {}, {}
    for done, stage in enumerate(assembly.networks()):
        report(done)
        module = result.modules[stage]
        assert isinstance(module, Classify | GradeNetwork)
        clean = [feed["clean"] for feed in calibration.feeds(assembly.specs[stage]).few]
        with torch.no_grad():
            levels = [module.resized(torch.from_numpy(image)) for image in clean]
        trained = module.network
        module.network = rounded(trained, levels)
        align(module.network)
        pixels[stage] = input_range(module.network)
        embeddings[stage] = mean_embedding(trained, levels)
        error = mean_embedding(module.network, levels) - embeddings[stage]
        module.network.offset = Offset(torch.from_numpy(error).float())
    return Prepared(result, calibration, pixels, embeddings)


def mean_embedding(network: Network, levels: Iterable[Tensor]) -> Embedding:
    """Return the mean of what a network pools of images, float32 [1, 3, s, s] each."""
    with torch.no_grad():
        given = torch.cat([network.embed(image) for image in levels])
    mean: Embedding = given.double().mean(dim=0).numpy()
    return mean
