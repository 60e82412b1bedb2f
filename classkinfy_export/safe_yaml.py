"""YAML of plain values, from anyone."""

from __future__ import annotations

from typing import Any

import yaml

from classkinfy_export.document import brief

_MOST_KEYS = 10_000
"""Of a mapping. Keys that are merged from aliases of aliases are as many as one likes."""


class _Loader(yaml.SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_KEYS:
            raise ValueError(f"a mapping has more than {_MOST_KEYS} keys")


def load(data: bytes | str) -> Any:  # noqa: ANN401  (whatever YAML holds)
    """Parse YAML.

    Args:
        data: UTF-8, where it is bytes.

    Raises:
        ValueError: it is none.
    """
    try:
        return yaml.load(data.decode() if isinstance(data, bytes) else data, _Loader)  # noqa: S506
    except (AttributeError, LookupError, RecursionError, TypeError, yaml.YAMLError) as error:
        # Of a tag on a value that it does not fit, PyYAML raises what Python makes of it.
        raise ValueError(brief(str(error) or type(error).__name__)) from error
