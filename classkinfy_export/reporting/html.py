"""Templates of self-contained pages, and how figures are written in them.

A page loads nothing: styles, plots and pictures are inside it, it has no script, and its content
policy forbids any. All text is escaped.
"""

from __future__ import annotations

import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

_TEMPLATES = Path(__file__).parent / "templates"
_NONE = "\N{EN DASH}"


def template(name: str) -> Template:
    """Return a template, its figures' formats with it."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["own"] = lambda name: name.startswith("own_")
    environment.filters.update(
        mib=lambda size: f"{size / 2**20:.2f}",
        number=_number,
        delta=_delta,
        share=lambda value: _number(None if value is None else 100 * value, 1),
        shape=lambda values: " \N{MULTIPLICATION SIGN} ".join(map(str, values)),
        value=lambda value: _NONE if value is None or math.isnan(value) else f"{value:.6g}",
    )
    return environment.get_template(name)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or math.isnan(value):
        return _NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def _delta(value: float | None) -> str:
    if value is None or math.isnan(value):
        return _NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return "0" if value == 0 else f"{value:.2g}"
