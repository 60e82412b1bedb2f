"""The ranges in a quantised file against those that calibration saw; no image is needed.

A scale that is a little off costs a little accuracy on every image and flips few labels, so it is
looked for where it stands: in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from classkinfy_export import runtimes
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, MissingDependencyError, require
from classkinfy_export.parity.compare import Difference, TensorParity, summarise

TOLERANCE = 0.01
"""Of a range, relative to its width: more than rounding, less than a step of 255."""
_CODES = 255
_QUANTISED = "_quantized"
"""Ends the name of the int8 copy of a float tensor in a LiteRT file."""

Range = tuple[float, float]


def calibrated(bundle: Bundle, model: ModelFile) -> dict[str, Range]:
    """Return what calibration saw of each activation, in the order in which they are computed.

    Raises:
        BundleError: the model is not quantised, or its ranges are damaged.
    """
    if model.ranges is None:
        raise BundleError(f"{model.path} has no calibrated ranges")
    try:
        content = json.loads(bundle.read(model.ranges))
        return {name: (float(low), float(high)) for name, (low, high) in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise BundleError(f"{model.ranges} is damaged: {error}", hint="export again") from error


def step(bundle: Bundle, model: ModelFile, stage: str) -> float:
    """Return one int8 step of the last quantised tensor of a stage's network.

    Args:
        bundle: an opened bundle.
        model: a quantised file of it.
        stage: which is in the file.
    """
    ranges = calibrated(bundle, model)
    own = [bounds for name, bounds in ranges.items() if name.startswith(f"{stage}/")]
    return _width((own or list(ranges.values()))[-1]) / _CODES


def parity(bundle: Bundle) -> tuple[list[TensorParity], dict[str, str]]:
    """Hold every quantised file's ranges to those that were calibrated.

    Returns:
        a row for each file and network in it, its tensor with the largest relative error in place
        of the worst image; and files that could not be looked at, with the reason.
    """
    rows, unread = [], {}
    for model in bundle.manifest.models:
        if model.ranges is None:
            continue
        try:
            found = widths(bundle, model)
        except MissingDependencyError as error:
            unread[f"ranges of {model.path}"] = str(error)
            continue
        for stage in model.entries:
            own = {n: w for n, w in found.items() if n.startswith(f"{stage}/")}
            if model.format == "onnx":
                own = found
            if own:
                rows.append(_row(model, stage, own))
    return rows, unread


def _row(model: ModelFile, stage: str, found: dict[str, tuple[float, float]]) -> TensorParity:
    differences = [
        (name, Difference(largest=abs(has - saw) / (saw or 1.0), expected=saw, actual=has))
        for name, (saw, has) in found.items()
    ]
    return summarise(
        differences,
        runtime=runtimes.first(model.format),
        precision=model.precision,
        form="fused" if stage == PIPELINE else "staged",
        reference="calibration",
        stage=stage,
        tensor="int8 ranges",
        gate="tensors",
        tolerance=TOLERANCE,
    )


def widths(bundle: Bundle, model: ModelFile) -> dict[str, tuple[float, float]]:
    """Return the width of each range: as calibration saw it, and as the file has it.

    A range that the file does not have is 0 wide there.

    Raises:
        BundleError: the file cannot be read, or its ranges are damaged.
        MissingDependencyError: the package that reads the format is not installed.
    """
    seen = calibrated(bundle, model)
    found = (_onnx if model.format == "onnx" else _litert)(bundle.read(model.path))
    return {name: (_width(bounds), found.get(name, 0.0)) for name, bounds in seen.items()}


def _width(bounds: Range) -> float:
    """Return a range's width; it always holds 0, which int8 holds exactly."""
    low, high = bounds
    return max(high, 0.0) - min(low, 0.0)


def _onnx(data: bytes) -> dict[str, float]:
    require("onnx", extra="export", purpose="reading the ranges of ONNX files")
    import onnx
    from onnx import numpy_helper

    def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    yield from graphs(attribute.g)

    scales: dict[str, onnx.TensorProto] = {}
    rounded: dict[str, str] = {}
    for graph in graphs(onnx.load_from_string(data).graph):
        scales |= {tensor.name: tensor for tensor in graph.initializer}
        rounded |= {n.input[0]: n.input[1] for n in graph.node if n.op_type == "QuantizeLinear"}
    return {
        name: float(numpy_helper.to_array(scales[scale]).max()) * _CODES
        for name, scale in rounded.items()
        if scale in scales
    }


def _litert(data: bytes) -> dict[str, float]:
    require("ai_edge_litert", extra="litert", purpose="reading the ranges of LiteRT files")
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    found = {}
    for signature in model.signatureDefs:
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        widths = [_litert_width(tensor, schema.TensorType.INT8) for tensor in tensors]
        copies = {tensor.name: width for tensor, width in zip(tensors, widths, strict=True)}
        for index, tensor in enumerate(tensors):
            width = widths[index] or copies.get(tensor.name + _QUANTISED.encode(), 0.0)
            found[f"{signature.signatureKey.decode()}/{index}"] = width
    return found


def _litert_width(tensor: Any, int8: int) -> float:  # noqa: ANN401  (untyped upstream)
    scale = None if tensor.quantization is None else tensor.quantization.scale
    if tensor.type != int8 or scale is None or len(scale) != 1:
        return 0.0
    return float(scale[0]) * _CODES
