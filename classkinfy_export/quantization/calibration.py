"""The photos that a quantised model's ranges are taken from, through the deployed stages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classkinfy_export.contract import StageSpec
from classkinfy_export.frame import frame
from classkinfy_export.layouts import encode
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import Assembly

Array = npt.NDArray[np.generic]
Feed = dict[str, Array]
"""A stage's inputs, by name."""


class CalibrationSet:
    """Photos, framed and prepared as an app's are: the same modules that are exported run here.

    Args:
        paths: of photos, at least one, in the order in which they are used.
        assembly: the stages.
        recipe: how photos are framed.
        progress: called with (done, total) photos.

    Raises:
        ImageError: a photo cannot be decoded.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        assembly: Assembly,
        recipe: ExportRecipe,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        digest = hashlib.sha256()
        self._tensors: list[dict[str, Any]] = []
        plain = recipe.capture.model_copy(update={"layout": "rgb"})
        for done, path in enumerate(paths):
            progress(done, len(paths))
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            image = encode(frame(path, plain, recipe.fit), recipe.capture.layout)
            self._tensors.append(_prepared(assembly, torch.from_numpy(image)))
        progress(len(paths), len(paths))
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._tensors)

    def feeds(self, spec: StageSpec) -> Iterator[Feed]:
        """Give a stage's inputs, photo by photo; of a stage right after ``prepare``, ``screen``."""
        for tensors in self._tensors:
            yield {tensor.name: tensors[tensor.name] for tensor in spec.inputs}


def _prepared(assembly: Assembly, image: torch.Tensor) -> dict[str, Any]:
    with torch.no_grad():
        tensors = {"clean": assembly.modules["prepare"](image)["clean"]}
        if "screen" in assembly.modules:
            screened = assembly.modules["screen"](tensors["clean"])
            tensors["preliminary"] = screened["preliminary"]
    return {name: tensor.numpy() for name, tensor in tensors.items()}
