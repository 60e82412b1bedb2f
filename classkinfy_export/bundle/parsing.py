"""Model files of a bundle that anyone may have made: the parsers of Python check little."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from classkinfy_export.document import brief
from classkinfy_export.errors import BundleError, ClasskinfyError

_LARGEST = 2**24
"""Of what stands in a file as a size, a pad or a place in a tensor, unless it means its end."""
_ENDS = (2**31 - 1, 2**63 - 1, -(2**31), -(2**63))
_SHAPE_LIKE = 64
"""Values of an int64 tensor that may be sizes; larger ones are data."""


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


def onnx(data: bytes) -> Any:  # noqa: ANN401  (generated, untyped)
    """Parse an ONNX file, and refuse sizes that shape inference, in C++, would not end or survive.

    Returns:
        a ``ModelProto``.

    Raises:
        ValueError: it is no such file, or has a size that no image needs.
    """
    import onnx

    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's, whose class depends on how it was built
        raise ValueError(str(error)) from error
    for size in _sizes(onnx, model.graph):
        if not -_LARGEST <= size <= _LARGEST and size not in _ENDS:
            raise ValueError(f"it has a size of {size}")
    return model


def _sizes(onnx: Any, graph: Any) -> Iterator[int]:  # noqa: ANN401
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield from (size.dim_value for size in value.type.tensor_type.shape.dim)
    for tensor in graph.initializer:
        yield from _in_tensor(onnx, tensor)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.i
            yield from attribute.ints
            if attribute.HasField("t"):
                yield from _in_tensor(onnx, attribute.t)
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _sizes(onnx, inner)


def _in_tensor(onnx: Any, tensor: Any) -> Iterator[int]:  # noqa: ANN401
    yield from tensor.dims
    if tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= _SHAPE_LIKE:
        yield from np.ravel(onnx.numpy_helper.to_array(tensor)).tolist()
