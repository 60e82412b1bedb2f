"""Diagnoses and severities as data: what the classes are, and which are graded or malignant."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, model_validator

from classkinfy_export.document import Document

DISCLAIMER = (
    "Research and education only. Not a medical device: "
    "no output of this software is a diagnosis or medical advice."
)
PROXY_NOTICE = (
    "Severity is a proxy grade computed from lesion area, border, darkness and colour; "
    "it was never assessed by a clinician."
)

_HAM10000 = {
    "akiec": "actinic keratosis / Bowen's disease",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic naevus",
    "vasc": "vascular lesion",
}


_MOST = 1024
"""Of classes, and of severities: networks are made as wide as these, before weights are read."""


class Taxonomy(Document):
    """The classes of a classifier, in output order.

    The default is HAM10000's seven diagnoses. Another set is written in a recipe; it then
    travels in checkpoints and in the manifest, and no code names a class.
    """

    classes: tuple[str, ...] = Field(tuple(_HAM10000), min_length=2, max_length=_MOST)
    graded: tuple[str, ...] = ("akiec", "bcc", "bkl", "mel", "nv")
    malignant: tuple[str, ...] = ("akiec", "bcc", "mel")
    severities: tuple[str, ...] = Field(
        ("mild", "moderate", "severe"), min_length=2, max_length=_MOST
    )
    names: dict[str, str] = Field(default_factory=lambda: dict(_HAM10000))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in ("classes", "graded", "malignant", "severities"):
            values: tuple[str, ...] = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names something twice: {', '.join(values)}")
            for value in values:
                if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
                    raise ValueError(
                        f"{field}: {value!r} must be lower-case letters, digits and underscores"
                    )
        for field in ("graded", "malignant"):
            unknown = sorted(set(getattr(self, field)) - set(self.classes))
            if unknown:
                raise ValueError(f"{field} names {', '.join(unknown)}, not among the classes")
        return self

    def index(self, dx: str) -> int:
        """Return the output position of a class. Raises ValueError when there is none."""
        return self.classes.index(dx)

    def title(self, dx: str) -> str:
        """Return the display name of a class, the class itself when none is given."""
        return self.names.get(dx, dx)
