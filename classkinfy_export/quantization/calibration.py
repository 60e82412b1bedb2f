"""The photos that a quantised model's ranges are taken from, through the deployed stages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classkinfy_export.contract import StageSpec
from classkinfy_export.frame import frame
from classkinfy_export.layouts import encode
from classkinfy_export.quantization import ranges
from classkinfy_export.quantization.photos import Photos
from classkinfy_export.quantization.ranges import Ranges, Shifts, Values
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import Assembly

Array = npt.NDArray[np.generic]
Feed = dict[str, Array]
"""A stage's inputs, by name."""

_FEW = 64
"""Photos are enough for a mean."""


class Feeds:
    """A stage's inputs, photo by photo. ``shifts`` has those of the ranges that were last taken."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = tuple(feeds)
        self.shifts: Shifts = {}

    def __iter__(self) -> Iterator[Feed]:
        """Give them in order."""
        return iter(self._feeds)

    @property
    def few(self) -> tuple[Feed, ...]:
        """Some of them, evenly spaced: 64 to 127, or all of fewer."""
        return self._feeds[:: max(1, len(self._feeds) // _FEW)]

    def ranges(self, observe: Callable[[Feed], Values]) -> Ranges:
        """Take ranges over all photos, and compare those of two halves, alternate photos.

        Args:
            observe: gives the values of what is to be quantised.
        """
        halves = [half for half in (self._feeds[::2], self._feeds[1::2]) if half]
        taken, self.shifts = ranges.take([partial(map, observe, half) for half in halves])
        return taken


class CalibrationSet:
    """Photos, framed and prepared as an app's are: the same modules that are exported run here.

    Args:
        photos: at least one.
        assembly: the stages.
        recipe: how photos are framed.
        progress: called with (done, total) photos.

    Raises:
        ImageError: a photo cannot be decoded.
    """

    def __init__(
        self,
        photos: Photos,
        assembly: Assembly,
        recipe: ExportRecipe,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        digest = hashlib.sha256()
        self._tensors: list[dict[str, Any]] = []
        plain = recipe.capture.model_copy(update={"layout": "rgb"})
        total = len(photos.paths)
        for done, path in enumerate(photos.paths):
            progress(done, total)
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            image = encode(frame(path, plain, recipe.fit), recipe.capture.layout)
            self._tensors.append(_prepared(assembly, torch.from_numpy(image)))
        progress(total, total)
        self.photos = photos
        self.sha256 = digest.hexdigest()
        self._shifts: Shifts = {}

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def shifts(self) -> Mapping[str, float]:
        """How far scales are apart between halves, of every activation that was noted."""
        return self._shifts

    def feeds(self, spec: StageSpec) -> Feeds:
        """Give a stage's inputs, photo by photo; of a stage right after ``prepare``, ``screen``."""
        return Feeds(
            {tensor.name: tensors[tensor.name] for tensor in spec.inputs}
            for tensors in self._tensors
        )

    def note(self, model: str, feeds: Feeds, quantised: Iterable[str]) -> None:
        """Note how far the scales of a model's quantised activations are apart between halves.

        Args:
            model: what to put before an activation's name.
            feeds: those that its ranges were taken from.
            quantised: the activations that are; a format may have taken ranges of more.
        """
        self._shifts |= {f"{model}{t}": feeds.shifts[t] for t in quantised if t in feeds.shifts}


def _prepared(assembly: Assembly, image: torch.Tensor) -> dict[str, Any]:
    with torch.no_grad():
        tensors = {"clean": assembly.modules["prepare"](image)["clean"]}
        if "screen" in assembly.modules:
            screened = assembly.modules["screen"](tensors["clean"])
            tensors["preliminary"] = screened["preliminary"]
    return {name: tensor.numpy() for name, tensor in tensors.items()}
