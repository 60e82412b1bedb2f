"""Model files of a bundle that anyone may have made: the parsers of Python check little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from classkinfy_export.document import brief
from classkinfy_export.errors import BundleError, ClasskinfyError


@contextmanager
def parsing(source: str) -> Iterator[None]:
    """Turn whatever a damaged model file makes its parser, or what walks it, raise into one error.

    Args:
        source: what to call the file.

    Raises:
        BundleError: the file is damaged.
    """
    try:
        yield
    except ClasskinfyError:
        raise
    except Exception as error:
        raise BundleError(
            f"{source} is damaged: {brief(str(error) or type(error).__name__)}",
            hint="export the bundle again",
        ) from error


def litert(data: bytes) -> Any:  # noqa: ANN401  (generated, untyped)
    """Parse a LiteRT file, verified by LiteRT first: the parser would follow any offset and count.

    Returns:
        a ``ModelT`` of LiteRT's schema.

    Raises:
        ValueError: it is no such file.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    Interpreter(model_content=data)
    return schema.ModelT.InitFromPackedBuf(data, 0)
