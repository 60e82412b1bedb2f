"""What the server says, as OpenAPI documents it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from classkinfy_export.runtimes.base import Array
from classkinfy_export.runtimes.session import Prediction, Session, named
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE

_EXAMPLE: dict[str, JsonValue] = {
    "accepted": True,
    "reasons": ["hair"],
    "quality": {
        "hair_coverage": 0.18,
        "sharpness": 31.5,
        "dark_share": 0.04,
        "bright_share": 0.01,
    },
    "diagnosis": "nv",
    "confidence": 0.91,
    "probabilities": {"mel": 0.06, "nv": 0.91, "bkl": 0.03},
    "preliminary": {"mel": 0.2, "nv": 0.7, "bkl": 0.1},
    "severity": "mild",
    "severity_probabilities": {"mild": 0.8, "moderate": 0.15, "severe": 0.05},
    "bundle": "3ac460180cc6…",
    "runtime": "onnx fp32 staged",
    "timings_ms": {"frame": 2.1, "prepare": 4.0, "screen": 2.8, "classify": 9.5, "grade_nv": 0.1},
    "severity_notice": PROXY_NOTICE,
    "disclaimer": DISCLAIMER,
    "id": "4ad3dbdf-4dd1-41de-9ba6-136f13d137e0",
}


class Answer(BaseModel):
    """What a bundle says about one photo: ``predict --json``, and where it is on record."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    accepted: bool
    reasons: list[str] = Field(description="Quality rules that the photo breaks")
    quality: dict[str, float]
    diagnosis: str | None = Field(description="null when the photo was refused")
    confidence: float
    probabilities: dict[str, float]
    preliminary: dict[str, float] | None = Field(description="What shape and colour alone suggest")
    severity: str | None = Field(description="A proxy grade; null when the diagnosis has none")
    severity_probabilities: dict[str, float] | None
    bundle: str = Field(description="SHA-256 of the bundle's manifest")
    runtime: str
    timings_ms: dict[str, float]
    severity_notice: str
    disclaimer: str
    id: str | None = Field(None, description="Of the record; null where none is kept")

    @classmethod
    def of(cls, prediction: Prediction, record: str | None) -> Answer:
        """Return an answer."""
        return cls(**prediction.to_json(), id=record)


class Preliminary(BaseModel):
    """The stream's first event."""

    quality: dict[str, float]
    preliminary: dict[str, float]


class Diagnosis(BaseModel):
    """Its second."""

    accepted: bool
    reasons: list[str]
    diagnosis: str | None
    confidence: float
    probabilities: dict[str, float]


class Failure(BaseModel):
    """Why there is no answer, and what to do."""

    error: str
    hint: str = ""


class BatchAnswer(BaseModel):
    """Of each photo in turn, its answer or why there is none."""

    answers: list[Answer | Failure]


def partial(session: Session, what: str, tensors: Mapping[str, Array]) -> BaseModel:
    """Return what is known before the answer is whole, as ``runtimes.session.Told`` has it."""
    if what == "preliminary":
        return Preliminary(
            quality=named(session.manifest.quality_measures, tensors["quality"]),
            preliminary=named(session.manifest.taxonomy.classes, tensors["preliminary"]),
        )
    return Diagnosis.model_validate(session.interpret(tensors), from_attributes=True)


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of statuses that carry a ``Failure``."""
    return {status: {"model": Failure} for status in statuses}
