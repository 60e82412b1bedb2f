"""What quantising a stage adds to its embedding, on average, taken off again.

Rounding moves means: of what is cut at the end of a range, and of what swish makes of noise. The
embedding is float, so that its offset can make good all of it at once, and at no cost.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from classkinfy_export.errors import ExportError
from classkinfy_export.formats.onnx import probe
from classkinfy_export.quantization.calibration import Feed
from classkinfy_export.quantization.preparation import Embedding

_OFFSET = ".network.offset.values"
"""Ends the name of the constant, which the exporter takes from the module's."""


def correct(model: onnx.ModelProto, wanted: Embedding, feeds: Iterable[Feed]) -> None:
    """Correct a quantised stage's offset, in place.

    Args:
        model: a stage of a network made ready.
        wanted: what the mean of its embedding should be.
        feeds: inputs, of the photos that this is the mean of.

    Raises:
        ExportError: the stage has none.
    """
    found = [n for n in model.graph.node if n.op_type == "Sub" and n.input[1].endswith(_OFFSET)]
    if len(found) != 1:
        raise ExportError(f"stage {model.graph.name} has {len(found)} constants *{_OFFSET}, not 1")
    node = found[0]
    embedding = node.output[0]
    session = probe.watch(model, [embedding])
    given = np.mean([session.run([embedding], feed)[0][0] for feed in feeds], axis=0, dtype=float)
    (held,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    offset = numpy_helper.to_array(held) + (given - wanted)
    held.CopyFrom(numpy_helper.from_array(offset.astype(np.float32), held.name))
