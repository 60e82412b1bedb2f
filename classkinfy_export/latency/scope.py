"""What of a bundle is measured, here or on a phone."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form, FormatName
from classkinfy_export.data import synthetic
from classkinfy_export.errors import BundleError
from classkinfy_export.precision import Precision

NOISE = 1.25
"""Medians of the rounds further apart than this ratio mean that the machine was too noisy."""


def drawn_photo(bundle: Bundle) -> bytes:
    """Draw a lesion of the capture's size, as a camera gives it: a JPEG."""
    capture = bundle.manifest.capture
    drawn = Image.fromarray(synthetic.lesion("nv", seed=0, hair=0.0).image)
    file = io.BytesIO()
    drawn.resize((capture.width, capture.height)).save(file, "JPEG", quality=95)
    return file.getvalue()


def precisions(bundle: Bundle, asked: Sequence[Precision] | None) -> list[Precision]:
    """Return the precisions asked for, all that the bundle holds where none are.

    Raises:
        BundleError: it does not hold one.
    """
    held = list(dict.fromkeys(model.precision for model in bundle.manifest.models))
    for precision in asked or ():
        if precision not in held:
            raise BundleError(
                f"the bundle holds no {precision}",
                hint=f"it holds {', '.join(held)}; or export with another recipe",
            )
    return list(asked) if asked else held


def graded(bundle: Bundle, diagnosis: int) -> str:
    """Return the diagnosis whose grader an answer ran, empty where none did."""
    graders = {stage.diagnosis for stage in bundle.manifest.stages}
    dx = bundle.manifest.taxonomy.classes[diagnosis] if diagnosis >= 0 else None
    return dx if dx is not None and dx in graders else ""


def model_bytes(bundle: Bundle, format: FormatName, precision: Precision, form: Form) -> int:
    """Return the size of a form's files in a format and precision, all graders included."""
    paths = {
        model.path
        for model in bundle.manifest.models
        if (model.format, model.precision) == (format, precision)
        and (PIPELINE in model.entries if form == "fused" else set(model.entries) - {PIPELINE})
    }
    return sum(bundle.manifest.files[path].size_bytes for path in paths)
