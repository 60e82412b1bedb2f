"""YAML of plain values, from anyone."""

from __future__ import annotations

from typing import Any

import yaml

from classkinfy_export.document import brief


def load(data: bytes | str) -> Any:  # noqa: ANN401  (whatever YAML holds)
    """Parse YAML.

    Args:
        data: UTF-8, where it is bytes.

    Raises:
        ValueError: it is none.
    """
    try:
        return yaml.safe_load(data.decode() if isinstance(data, bytes) else data)
    except (
        *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError),
        yaml.YAMLError,
    ) as error:
        # Of a tag on a value that it does not fit, or of a character that is none, PyYAML raises
        # what Python makes of it.
        raise ValueError(brief(str(error) or type(error).__name__)) from error
