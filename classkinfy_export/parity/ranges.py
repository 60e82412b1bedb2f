"""The ranges in a quantised file against those that calibration took; no image is needed.

A scale that is a little off costs a little accuracy on every image and flips few labels, so it is
looked for where it stands: in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from classkinfy_export import runtimes
from classkinfy_export.bundle import parsing
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.document import brief
from classkinfy_export.errors import BundleError, MissingDependencyError, require
from classkinfy_export.parity.compare import Difference, TensorParity, summarise

TOLERANCE = 0.01
"""Of a range's ends, relative to its width: a zero is rounded to a step, which is 1 / 255."""
_CODES = 255
_QUANTISED = "_quantized"
"""Ends the name of the int8 copy of a float tensor in a LiteRT file."""

Range = tuple[float, float]


def calibrated(bundle: Bundle, model: ModelFile) -> dict[str, Range]:
    """Return the calibrated range of each activation, in the order in which they are computed.

    Raises:
        BundleError: the model is not quantised, or its ranges are damaged.
    """
    if model.ranges is None:
        raise BundleError(f"{model.path} has no calibrated ranges", hint="export again")
    try:
        content = json.loads(bundle.read(model.ranges))
        found = {name: (float(low), float(high)) for name, (low, high) in content.items()}
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BundleError(
            f"{model.ranges} is damaged: {brief(str(error))}", hint="export again"
        ) from error
    finite = np.isfinite(list(found.values())).all()
    if not found or not finite or any(low > high for low, high in found.values()):
        raise BundleError(f"{model.ranges} holds no ranges", hint="export again")
    return found


def step(bundle: Bundle, model: ModelFile, stage: str) -> float:
    """Return one int8 step of the last quantised tensor of a stage's network.

    Args:
        bundle: an opened bundle.
        model: a quantised file of it.
        stage: which is in the file.
    """
    found = calibrated(bundle, model)
    own = [bounds for name, bounds in found.items() if name.startswith(f"{stage}/")]
    low, high = (own or list(found.values()))[-1]
    return (max(high, 0.0) - min(low, 0.0)) / _CODES


def parity(bundle: Bundle) -> tuple[list[TensorParity], dict[str, str]]:
    """Hold every quantised file's ranges to those that were calibrated.

    Returns:
        a row for each file and network in it, its tensor with the largest error in place of the
        worst image; and files that could not be looked at, with the reason.

    Raises:
        BundleError: a file cannot be read, or its ranges are damaged.
    """
    rows, unread = [], {}
    for model in bundle.manifest.models:
        if model.ranges is None:
            continue
        try:
            found = ranges(bundle, model)
        except MissingDependencyError as error:
            unread[f"ranges of {model.path}"] = str(error)
            continue
        for stage in model.entries:
            own = {n: pair for n, pair in found.items() if n.startswith(f"{stage}/")}
            own = found if model.format == "onnx" else own
            if own:
                rows.append(_row(model, stage, own))
    return rows, unread


def _row(
    model: ModelFile, stage: str, found: dict[str, tuple[Range, Range | None]]
) -> TensorParity:
    return summarise(
        [(name, _error(saw, has)) for name, (saw, has) in found.items()],
        runtime=runtimes.first(model.format),
        precision=model.precision,
        form="fused" if stage == PIPELINE else "staged",
        reference="calibration",
        stage=stage,
        tensor="int8 ranges",
        gate="tensors",
        tolerance=TOLERANCE,
    )


def _error(saw: Range, has: Range | None) -> Difference:
    """Return how far a range's ends are off, relative to its width."""
    low, high = min(saw[0], 0.0), max(saw[1], 0.0)  # it always holds 0, which int8 holds exactly
    if has is None:
        return Difference(largest=math.inf)
    if high == low:
        return Difference(largest=0.0)  # a tensor without any signal
    errors = [abs(has[0] - low) / (high - low), abs(has[1] - high) / (high - low)]
    largest = max(errors) if np.isfinite(errors).all() else math.inf
    end = errors.index(max(errors))
    return Difference(largest=largest, expected=(low, high)[end], actual=has[end])


def ranges(bundle: Bundle, model: ModelFile) -> dict[str, tuple[Range, Range | None]]:
    """Return each range: as calibration saw it, and as the file has it, None where it has not.

    Raises:
        BundleError: the file cannot be read, or its ranges are damaged.
        MissingDependencyError: the package that reads the format is not installed.
    """
    seen = calibrated(bundle, model)
    with parsing.parsing(model.path):
        found = (_onnx if model.format == "onnx" else _litert)(bundle.read(model.path))
    return {name: (bounds, found.get(name)) for name, bounds in seen.items()}


def _onnx(data: bytes) -> dict[str, Range]:
    """Return the range of each tensor that is rounded, and read back, by one scale and zero."""
    require("onnx", extra="export", purpose="reading the ranges of ONNX files")
    import onnx
    from onnx import numpy_helper

    def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    yield from graphs(attribute.g)

    found: dict[str, Range] = {}
    for graph in graphs(parsing.onnx(data).graph):
        held = {tensor.name: tensor for tensor in graph.initializer}
        rounded = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
        for node in graph.node:
            made = rounded.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if made is None or made.input[1] not in held:
                continue
            ends = []
            for one in (made, node):
                scale, zero = (numpy_helper.to_array(held[name]) for name in one.input[1:3])
                least = -int(zero) * float(scale)
                ends.append((least, least + _CODES * float(scale)))
            if ends[0] != ends[1] or found.get(made.input[0], ends[0]) != ends[0]:
                ends[0] = (math.nan, math.nan)  # read back otherwise than it was rounded
            found[made.input[0]] = ends[0]
    return found


def _litert(data: bytes) -> dict[str, Range]:
    require("ai_edge_litert", extra="litert", purpose="reading the ranges of LiteRT files")
    from ai_edge_litert import schema_py_generated as schema

    model = parsing.litert(data)
    found = {}
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        held = [_litert_range(tensor, schema.TensorType.INT8) for tensor in tensors]
        copies = {tensor.name: bounds for tensor, bounds in zip(tensors, held, strict=True)}
        for index, tensor in enumerate(tensors):
            bounds = held[index] or copies.get(tensor.name + _QUANTISED.encode())
            if bounds is not None:
                found[f"{signature.signatureKey.decode()}/{index}"] = bounds
    return found


def _litert_range(tensor: Any, int8: int) -> Range | None:  # noqa: ANN401  (untyped upstream)
    scale = None if tensor.quantization is None else tensor.quantization.scale
    if tensor.type != int8 or scale is None or len(scale) != 1:
        return None
    least = (-128 - int(tensor.quantization.zeroPoint[0])) * float(scale[0])
    return least, least + _CODES * float(scale[0])
