"""A photo and a classifier to a picture of where it looked."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from classkinfy_export import files
from classkinfy_export.errors import BundleError, require
from classkinfy_export.frame import frame
from classkinfy_export.jobs.target import opened
from classkinfy_export.runtimes.pytorch import PytorchEngine, PytorchRuntime
from classkinfy_export.runtimes.session import Prediction, Session
from classkinfy_export.taxonomy import Taxonomy

_OPACITY = 0.55
"""Of the heat where it is strongest."""


@dataclass(frozen=True)
class Explanation:
    """Where a classifier looked."""

    prediction: Prediction
    taxonomy: Taxonomy
    explained: str
    """The class that the heat speaks for."""
    heat: npt.NDArray[np.float32]
    """[h, w] of ``clean``, 0..1."""
    overlay: npt.NDArray[np.uint8]
    """[h, w, 3]: ``clean`` with the heat over it."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the prediction, and the class explained."""
        return {"explained": self.explained, "prediction": self.prediction.to_json()}


def explain(target: Path, photo: Path, *, dx: str | None = None) -> Explanation:
    """Explain an answer for one photo by Grad-CAM.

    The heat is laid over ``clean``, the image that the network was given: without its hair.

    Args:
        target: a bundle with PyTorch weights, a training run, or a checkpoint.
        photo: the photo.
        dx: the class to explain; the most probable one by default.

    Raises:
        BundleError: the bundle holds no PyTorch weights, or ``dx`` is not one of its classes.
        ImageError: the photo cannot be read.
        MissingDependencyError: torch or matplotlib are not installed.
    """
    require("torch", extra="export", purpose="explaining an answer")
    require("matplotlib", extra="report", purpose="drawing an explanation")
    import matplotlib as mpl
    import torch

    from classkinfy_export.stages.classify import Classify
    from classkinfy_export.stages.gradcam import grad_cam

    with opened(target) as answering, PytorchRuntime().open(answering.bundle) as engine:
        assert isinstance(engine, PytorchEngine)
        bundle = engine.bundle
        taxonomy = bundle.manifest.taxonomy
        if dx is not None and dx not in taxonomy.classes:
            raise BundleError(
                f"{dx!r} is not a class", hint=f"classes: {', '.join(taxonomy.classes)}"
            )
        session = Session(engine)
        tensors = session.run(frame(photo, bundle.manifest.capture, bundle.manifest.fit))
        prediction, clean = session.interpret(tensors), tensors["clean"]
        explained = dx or max(prediction.probabilities, key=prediction.probabilities.__getitem__)
        classify = engine.modules["classify"]
        assert isinstance(classify, Classify)
        heat = grad_cam(classify, torch.from_numpy(clean), taxonomy.index(explained)).numpy()
    colours = mpl.colormaps["inferno"](heat)[..., :3] * 255.0
    opacity = _OPACITY * heat[..., None]
    overlay = np.rint(clean[0] * (1.0 - opacity) + colours * opacity).astype(np.uint8)
    return Explanation(prediction, taxonomy, explained, heat, overlay)


def write(explanation: Explanation, out: Path) -> None:
    """Write the overlay as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(explanation.overlay).save(buffer, format="PNG")
    files.write(out, buffer.getvalue())
