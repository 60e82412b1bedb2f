"""Frozen, typed documents: what recipes, manifests and reports are made of."""

from __future__ import annotations

import difflib

from pydantic import BaseModel, ConfigDict, ValidationError


class Document(BaseModel):
    """Never changed, and with no key that is not known.

    Its validator is built when it is first needed, so that an app's start pays for the documents it
    reads and not for all that there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class MeasuredDocument(Document):
    """One whose figures may be infinite or NaN, in JSON as in Python."""

    model_config = ConfigDict(ser_json_inf_nan="constants")


class FiniteDocument(Document):
    """One whose numbers are neither NaN nor infinite."""

    model_config = ConfigDict(allow_inf_nan=False)


_LONGEST = 1000
"""Characters of what is told of a problem: the file's own words are a part of it."""


def brief(text: str) -> str:
    """Cut what is told of a problem to a length that can be read."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return one line for one problem of a validation error, with what is allowed.

    A misspelt key comes first: the key that is missing in its place only follows from it.
    """
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_at(kind, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        allowed = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {brief(key)!r}; {allowed}"
    message = first["msg"].removeprefix("Value error, ")
    return brief(f"{key}: {message}" if key else message)


def _keys_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if isinstance(part, int) or part not in kind.model_fields:
            continue  # a place in a list, or a key of a dict
        nested = _model_in(kind.model_fields[part].annotation)
        if nested is None:
            return []
        kind = nested
    return list(kind.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
