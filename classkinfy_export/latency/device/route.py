"""The stages that one photo passes, and the model files they are in."""

from __future__ import annotations

from typing import NamedTuple

from classkinfy_export.bundle.manifest import PIPELINE
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Form, FormatName
from classkinfy_export.precision import Precision


class Step(NamedTuple):
    """A stage of the route."""

    stage: str
    model: str
    """The path of its file in the bundle."""
    entry: str
    """The signature of a LiteRT file, the graph of an ONNX file."""
    diagnosis: str | None
    """Of a grader, what it grades."""


def route(bundle: Bundle, form: FormatName, precision: Precision) -> tuple[Step, ...]:
    """Return the stages in the order that they run, of the graders the one with the largest file.

    Args:
        bundle: an opened bundle.
        form: the format.
        precision: of the models.

    Returns:
        none where the bundle does not hold the stages in this format and precision.
    """
    steps = []
    for spec in bundle.manifest.stages:
        model = bundle.manifest.find_model(spec.name, form, precision)
        if model is not None:
            steps.append(Step(spec.name, model.path, model.entries[spec.name], spec.diagnosis))
    if [step.stage for step in steps if step.diagnosis is None] != [*bundle.manifest.unrouted]:
        return ()
    files = bundle.manifest.files
    graders = [step for step in steps if step.diagnosis is not None]
    dearest = max(graders, key=lambda step: files[step.model].size_bytes, default=None)
    return tuple(step for step in steps if step.diagnosis is None or step is dearest)


def forms(bundle: Bundle, form: FormatName, precision: Precision) -> tuple[Form, ...]:
    """Return the forms that a bundle holds in a format and precision."""
    held: list[Form] = ["staged"] if route(bundle, form, precision) else []
    if bundle.manifest.find_model(PIPELINE, form, precision) is not None:
        held.append("fused")
    return tuple(held)
