"""Stages made ready for static int8: what every format converts and takes ranges from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from classkinfy_export.quantization.calibration import CalibrationSet
from classkinfy_export.quantization.folding import align, input_range
from classkinfy_export.quantization.rounding import rounded
from classkinfy_export.stages.assembly import Assembly
from classkinfy_export.stages.classify import Classify
from classkinfy_export.stages.grade import GradeNetwork

_PHOTOS = 64
"""Evenly spaced, of the calibration set: what weights are rounded by."""


@dataclass(frozen=True)
class Prepared:
    """What static precisions are made from."""

    assembly: Assembly
    """With networks made ready."""
    calibration: CalibrationSet
    """What ranges are taken from."""
    pixels: Mapping[str, tuple[float, float]]
    """By stage with a network: black and white, as it reads them."""


def prepare(
    assembly: Assembly, calibration: CalibrationSet, report: Callable[[int], None]
) -> Prepared:
    """Fold batch norm, round weights and align pixels, in a copy.

    Args:
        assembly: left as it is.
        calibration: what weights are rounded by, too.
        report: called with the number of networks done, before each.
    """
    result = copy.deepcopy(assembly)
    pixels = {}
    for done, stage in enumerate(assembly.networks()):
        report(done)
        module = result.modules[stage]
        assert isinstance(module, Classify | GradeNetwork)
        clean = [
            torch.from_numpy(feed["clean"]) for feed in calibration.feeds(assembly.specs[stage])
        ]
        apart = max(1, len(clean) // _PHOTOS)
        with torch.no_grad():
            levels = [module.resized(image) for image in clean[::apart]]
        module.network = rounded(module.network, levels)
        align(module.network)
        pixels[stage] = input_range(module.network)
    return Prepared(result, calibration, pixels)
