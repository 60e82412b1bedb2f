"""Stages made ready for int8: what every format converts and takes ranges from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from classkinfy_export.quantization import training
from classkinfy_export.quantization.calibration import CalibrationSet, Feed
from classkinfy_export.quantization.folding import align, fold, input_range
from classkinfy_export.quantization.rounding import round_weights
from classkinfy_export.quantization.training import Noise
from classkinfy_export.recipes import QatRecipe
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
    noises: Mapping[str, Noise]
    """By stage whose network was to be trained for int8."""


def prepare(
    assembly: Assembly,
    calibration: CalibrationSet,
    qat: QatRecipe | None,
    report: Callable[[str, int, int], None],
) -> Prepared:
    """Fold batch norm, round weights, align pixels and take off what that adds, in a copy.

    Args:
        assembly: left as it is.
        calibration: what weights are rounded by, too, and trained on.
        qat: how networks are trained first, if they are.
        report: told of each step.

    Raises:
        ExportError: a network is another one with batch norm folded, or cannot be trained.
    """
    result = copy.deepcopy(assembly)
    pixels, embeddings, noises = {}, {}, {}
    stages = assembly.networks()
    for done, stage in enumerate(stages):
        report(f"weights of {stage}", done, len(stages))
        module = result.modules[stage]
        assert isinstance(module, Classify | GradeNetwork)
        feeds = calibration.feeds(assembly.specs[stage])
        trained, module.network = module.network, fold(module.network)
        if qat is not None:
            noises[stage] = training.train(
                module.network,
                trained,
                _levels(module, feeds),
                qat,
                partial(report, f"training {stage} for int8"),
            )
        levels = _levels(module, feeds.few)
        round_weights(module.network, levels)
        align(module.network)
        pixels[stage] = input_range(module.network)
        embeddings[stage] = mean_embedding(trained, levels)
        error = mean_embedding(module.network, levels) - embeddings[stage]
        module.network.offset = Offset(torch.from_numpy(error).float())
    return Prepared(result, calibration, pixels, embeddings, noises)


def _levels(module: Classify | GradeNetwork, feeds: Iterable[Feed]) -> list[Tensor]:
    """Return what a stage's network reads of photos, float32 [1, 3, s, s] each."""
    with torch.no_grad():
        return [module.resized(torch.as_tensor(feed["clean"])) for feed in feeds]


def mean_embedding(network: Network, levels: Iterable[Tensor]) -> Embedding:
    """Return the mean of what a network pools of images, float32 [1, 3, s, s] each."""
    with torch.no_grad():
        given = torch.cat([network.embed(image) for image in levels])
    mean: Embedding = given.double().mean(dim=0).numpy()
    return mean
