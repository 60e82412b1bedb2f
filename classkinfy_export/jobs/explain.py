"""A photo and a classifier to a picture of where it looked, and a class's photos to a montage.

Where it looked is where its network did: what the screen adds to an answer has no place.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from classkinfy_export import files
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, require
from classkinfy_export.frame import Pixels, frame
from classkinfy_export.jobs.target import opened
from classkinfy_export.reporting.montage import Montage, Tile
from classkinfy_export.runtimes.pytorch import PytorchEngine, PytorchRuntime
from classkinfy_export.runtimes.session import Prediction, Session
from classkinfy_export.taxonomy import Taxonomy

if TYPE_CHECKING:
    import pandas as pd

_OPACITY = 0.55
"""Of the heat where it is strongest."""
_EACH = 8
"""Photos of a class in its montage."""


@dataclass(frozen=True)
class Explanation:
    """Where a classifier looked."""

    prediction: Prediction
    taxonomy: Taxonomy
    explained: str
    """The class that the heat speaks for."""
    heat: npt.NDArray[np.float32]
    """[h, w] of ``clean``, 0..1."""
    overlay: Pixels
    """uint8 [h, w, 3]: ``clean`` with the heat over it."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the prediction, and the class explained."""
        return {"explained": self.explained, "prediction": self.prediction.to_json()}


Explain = Callable[[Path, str | None], Explanation]
"""From a photo, and the class to explain, the most probable one by default."""


def explain(
    target: Path, photo: Path, *, dx: str | None = None, trusted: Sequence[str] = ()
) -> Explanation:
    """Explain an answer for one photo by Grad-CAM.

    The heat is laid over ``clean``, the image that the network was given.

    Args:
        target: a bundle with PyTorch weights, a training run, or a checkpoint.
        photo: the photo.
        dx: the class to explain; the most probable one by default.
        trusted: as of ``target.opened``.

    Raises:
        BundleError: the bundle holds no PyTorch weights, or ``dx`` is not one of its classes.
        ImageError: the photo cannot be read.
        MissingDependencyError: torch or matplotlib are not installed.
    """
    _require()
    with opened(target, trusted) as answering, _explaining(answering.bundle) as answer:
        return answer(photo, dx)


def montages(
    bundle: Bundle,
    records: pd.DataFrame,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Montage, ...]:
    """Explain some photos of each class: what speaks for the class that they are of.

    Photos are taken in the order of a hash of their ids, one of a lesion: no choice of the best.

    Args:
        bundle: with PyTorch weights.
        records: as of ``data.dataset.Dataset``; of images that the model was not trained on.
        report: told of progress.

    Returns:
        a montage for each class that occurs.

    Raises:
        BundleError, ImageError, MissingDependencyError: as ``explain``.
    """
    _require()
    by_lesion = records.drop_duplicates(["dx", "lesion_id"])
    order = sorted(by_lesion.index, key=lambda i: hashlib.sha256(str(i).encode()).digest())
    classes = bundle.manifest.taxonomy.classes
    shuffled = by_lesion.loc[order]
    chosen = {dx: shuffled.index[shuffled["dx"] == dx][:_EACH] for dx in classes}
    total, done = sum(map(len, chosen.values())), 0
    made: list[Montage] = []
    with _explaining(bundle) as answer:
        for dx, ids in chosen.items():
            if not len(ids):
                continue
            tiles = []
            for image_id in ids:
                report("explaining", done, total)
                explained = answer(Path(records["path"][image_id]), dx)
                chances = explained.prediction.probabilities
                right = max(chances, key=chances.__getitem__) == dx
                tiles.append(Tile(explained.overlay, chances[dx], right))
                done += 1
            made.append(Montage(dx, tuple(tiles)))
    report("explaining", total, total)
    return tuple(made)


def write(explanation: Explanation, out: Path) -> None:
    """Write the overlay as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(explanation.overlay).save(buffer, format="PNG")
    files.write(out, buffer.getvalue())


def _require() -> None:
    require("torch", extra="export", purpose="explaining an answer")
    require("matplotlib", extra="report", purpose="drawing an explanation")


@contextmanager
def _explaining(bundle: Bundle) -> Iterator[Explain]:
    """Open a bundle's PyTorch weights once, for any number of photos."""
    import torch

    from classkinfy_export.stages.classify import Classify
    from classkinfy_export.stages.gradcam import grad_cam

    taxonomy = bundle.manifest.taxonomy
    with PytorchRuntime().open(bundle) as engine:
        assert isinstance(engine, PytorchEngine)
        session, classify = Session(engine), engine.modules["classify"]
        assert isinstance(classify, Classify)

        def answer(photo: Path, dx: str | None) -> Explanation:
            if dx is not None and dx not in taxonomy.classes:
                raise BundleError(
                    f"{dx!r} is not a class", hint=f"classes: {', '.join(taxonomy.classes)}"
                )
            tensors = session.run(frame(photo, bundle.manifest.capture, bundle.manifest.fit))
            prediction, clean = session.interpret(tensors), tensors["clean"]
            chances = prediction.probabilities
            explained = dx or max(chances, key=chances.__getitem__)
            heat = grad_cam(classify, torch.from_numpy(clean), taxonomy.index(explained)).numpy()
            overlay = _overlay(clean[0], heat)
            return Explanation(prediction, taxonomy, explained, heat, overlay)

        yield answer


def _overlay(clean: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    import matplotlib as mpl

    colours = mpl.colormaps["inferno"](heat)[..., :3] * 255.0
    opacity = _OPACITY * heat[..., None]
    return np.asarray(np.rint(clean * (1.0 - opacity) + colours * opacity), np.uint8)
