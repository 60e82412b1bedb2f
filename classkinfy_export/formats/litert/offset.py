"""What quantising a network adds to its embedding, on average, taken off again; as in ``onnx``."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from classkinfy_export.errors import ExportError
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.preparation import Embedding

_OFFSET = re.compile(r"\.Offset_offset;")
"""In the name of the constant, which the converter takes from the module's."""
_EMBEDDING = "corrected"
"""An output that is there while it is measured."""


class _Offset(NamedTuple):
    embedding: int
    """The tensor that it is taken off to give."""
    buffer: int


def correct(model: bytes, wanted: Embedding, feeds: Feeds) -> bytes:
    """Correct the offset of a quantised network, as XNNPACK runs it.

    Args:
        model: its stage's file.
        wanted: what the mean of the embedding should be over ``Feeds.few``.
        feeds: of the stage.

    Returns:
        the file with another offset.

    Raises:
        ExportError: the network has none.
    """
    result = bytearray(model)
    found = _find(model)
    values = _values(result, found.buffer)
    values[:] = values + (_mean(model, found, feeds) - wanted)
    return bytes(result)


def _find(model: bytes) -> _Offset:
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    (signature,) = parsed.signatureDefs
    graph = parsed.subgraphs[signature.subgraphIndex]
    for operator in graph.operators:
        constant = graph.tensors[operator.inputs[-1]] if len(operator.inputs) == 2 else None
        if constant is not None and _OFFSET.search(constant.name.decode()):
            return _Offset(int(operator.outputs[0]), int(constant.buffer))
    raise ExportError(f"{graph.name.decode()} has no constant {_OFFSET.pattern!r}")


def _values(model: bytearray, index: int) -> npt.NDArray[np.float32]:
    """Return what a buffer holds, inside the flatbuffer or behind it, to be written to."""
    buffer = schema.Model.GetRootAs(model, 0).Buffers(index)
    if buffer.Offset() > 1:
        return np.frombuffer(model, np.float32, buffer.Size() // 4, buffer.Offset())
    values: npt.NDArray[np.float32] = buffer.DataAsNumpy().view(np.float32)
    return values


def _mean(model: bytes, offset: _Offset, feeds: Feeds) -> Embedding:
    with quiet():
        interpreter = Interpreter(model_content=_watched(model, offset), num_threads=1)
    run = interpreter.get_signature_runner()
    given = np.concatenate([run(**feed)[_EMBEDDING] for feed in feeds.few])
    mean: Embedding = given.mean(axis=0, dtype=np.float64)
    return mean


def _watched(model: bytes, offset: _Offset) -> bytes:
    """Return a file whose signature gives the embedding, too."""
    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    (entry,) = parsed.signatureDefs
    graph = parsed.subgraphs[entry.subgraphIndex]
    if offset.embedding not in graph.outputs:
        graph.outputs.append(offset.embedding)
    output = schema.TensorMapT()
    output.name, output.tensorIndex = _EMBEDDING.encode(), offset.embedding
    entry.outputs.append(output)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))
