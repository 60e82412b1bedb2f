"""The reference held to libraries that share no code with it: Pillow and OpenCV.

Runtimes are compared with PyTorch, so a fault of PyTorch's own preprocessing would pass in all of
them. A library that has a formula for a step is given what the step was given, and what both made
is compared in 8-bit levels. No library fills hair as ``prepare`` does, so of ``clean`` only what is
no hair is held; the lesion mask has no such reference at all.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import ConfigDict

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import Manifest
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.parity.compare import Difference, TensorParity, difference, summarise
from classkinfy_export.parity.error_map import MappedImage
from classkinfy_export.parity.kept import Kept, Seen
from classkinfy_export.runtimes.pytorch import PytorchEngine

RUNTIME, PRECISION, FORM = "pytorch", "fp32", "staged"
RESIZE_TOLERANCE = 1.0
"""Level: Pillow's weights have 22 bits, those of the graph 16."""
_HAIR_WINDOW, _HAIR_ABOVE = 9, 10


class Step(NamedTuple):
    """What is held to a library."""

    stage: str
    name: str
    """As ``resized 224 against Pillow``."""
    tolerance: float


class Held(Seen):
    """One image: which steps were held, and what came of it by a step's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    steps: tuple[Step, ...]
    differences: dict[str, Difference]


@dataclass
class Independent:
    """What was seen of the reference beside other libraries."""

    steps: list[Step] = field(default_factory=list)
    seen: list[tuple[MappedImage, dict[str, Difference]]] = field(default_factory=list)
    """Images, and differences by a step's name."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Libraries that are not installed, and how to get them."""

    def rows(self) -> list[TensorParity]:
        """Return one line a step."""
        return [
            summarise(
                [(image.name, found[step.name]) for image, found in self.seen],
                runtime=RUNTIME,
                precision=PRECISION,
                form=FORM,
                reference=step.name.rsplit(" ", 1)[-1],
                stage=step.stage,
                tensor=step.name,
                gate="preprocessing",
                tolerance=step.tolerance,
            )
            for step in self.steps
            if self.seen
        ]


def hold(
    bundle: Bundle,
    images: Sequence[Path],
    names: dict[str, str],
    *,
    threads: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Independent:
    """Hold the reference to Pillow and, where it is installed, to OpenCV.

    Args:
        bundle: an opened bundle.
        images: photos.
        names: those to look at: a name by the SHA-256 of the file.
        threads: of PyTorch; None means one a core.
        cache: a folder for what was seen, see ``Kept``.
        progress: called with (done, total) images.

    Raises:
        BundleError: the bundle holds no PyTorch weights.
        ImageError: an image cannot be decoded.
    """
    manifest, found = bundle.manifest, Independent()
    try:
        engine = runtimes.get(RUNTIME).open(bundle, threads=threads or os.cpu_count() or 1)
    except MissingDependencyError as error:
        found.not_run["Pillow and OpenCV beside PyTorch"] = str(error)
        return found
    assert isinstance(engine, PytorchEngine)
    if importlib.util.find_spec("cv2") is None:
        found.not_run["OpenCV beside PyTorch"] = (
            "opencv is not installed (pip install opencv-python-headless)"
        )
    left = dict(names)
    conditions = [bundle.sha256, _versions(), sorted(found.not_run)]
    kept = Kept(cache, "independent", conditions, Held)
    with engine, closing(kept):
        for path in images:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest not in left:
                continue
            name = left.pop(digest)
            if digest not in kept.seen:
                levels = engine.levels(frame(data, manifest.capture, manifest.fit))
                steps = list(_steps(manifest, levels, opencv=not found.not_run))
                differences = {step.name: difference(theirs, ours) for step, theirs, ours in steps}
                held = tuple(step for step, _, _ in steps)
                kept.add(Held(image=digest, steps=held, differences=differences))
            found.steps = list(kept.seen[digest].steps)
            found.seen.append((MappedImage(name=name, id=digest), kept.seen[digest].differences))
            progress(len(found.seen), len(names))
    return found


def _versions() -> dict[str, str]:
    """Return what is installed of what takes part."""
    found = {}
    for package in ("torch", "pillow", "opencv-python-headless", "opencv-python"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _steps(
    manifest: Manifest, levels: dict[str, Pixels], *, opencv: bool
) -> Iterator[tuple[Step, Pixels, Pixels]]:
    """Give each step with the library's answer and the module's."""
    capture, size = manifest.capture, manifest.working_size.as_tuple()
    hair: Pixels | None = None
    if opencv:
        gray, hair = _gray_and_hair(levels["rgb"])
        yield Step("prepare", "gray against OpenCV", 0.0), gray, levels["gray"]
        yield Step("prepare", "hair mask against OpenCV", 0.0), hair, levels["hair_mask"]
    if capture.layout != "nv21":  # no library decodes it at full range
        scaled = capture.as_tuple() != size
        photo = levels["image"][..., :3]
        photo = _resized(photo, *size) if scaled else photo
        tolerance = RESIZE_TOLERANCE if scaled else 0.0
        if not manifest.hair_removal:
            yield Step("prepare", "clean against Pillow", tolerance), photo, levels["clean"]
        elif hair is not None:
            bare = hair[..., np.newaxis] == 0
            theirs, ours = (np.where(bare, pixels, 0) for pixels in (photo, levels["clean"]))
            yield Step("prepare", "clean outside hair against Pillow", tolerance), theirs, ours
    seen: set[int] = set()
    for stage, network in manifest.networks.items():
        side = network.input_size
        if side not in seen and f"resized_{side}" in levels:
            seen.add(side)
            step = Step(stage, f"resized {side} against Pillow", RESIZE_TOLERANCE)
            yield step, _resized(levels["clean"], side, side), levels[f"resized_{side}"]


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 [1, h, w, 3] by Pillow."""
    resized = Image.fromarray(pixels[0]).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)[np.newaxis]


def _gray_and_hair(rgb: Pixels) -> tuple[Pixels, Pixels]:
    """Return OpenCV's luma and, of it, 1 where the black-hat says hair: uint8 [1, h, w] each."""
    import cv2

    gray = cv2.cvtColor(np.ascontiguousarray(rgb[0]), cv2.COLOR_RGB2GRAY)
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (_HAIR_WINDOW, _HAIR_WINDOW))
    black_hat = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, square)
    hair = (black_hat > _HAIR_ABOVE).astype(np.uint8)
    return np.asarray(gray, np.uint8)[np.newaxis], hair[np.newaxis]
