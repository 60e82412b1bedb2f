"""Static int8 of a stage's network, as pairs of QuantizeLinear and DequantizeLinear.

::

    clean ─ resize ─ normalise ─┤Q DQ├─ Conv ─┤Q DQ├─ … ─ Conv ─┤Q DQ├─ mean ─ head ─ softmax
            exact, float         int8 weights, uint8 activations            float

Weights are symmetric, one scale a channel; activations asymmetric, one scale a tensor, of the range
that calibration took. Activations are uint8, for which x86 has an instruction. Resize, the
last mean and head stay float: exact the one, and under 1 % of the work the others.

A squeeze-and-excite branch begins at a mean over positions and ends at its gate. It can be left in
float, for gates scale whole channels, and their errors with them; the mean, of whole maps, and the
product with what it gates are int8, the gate rounded once. So can blocks of the network. Their
weights are int8 all the same, turned to float as the model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from classkinfy_export.errors import ExportError
from classkinfy_export.formats.onnx import probe, weights
from classkinfy_export.formats.onnx.graph import IR_VERSION
from classkinfy_export.formats.tracing import quiet
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.ranges import Ranges

_BACKBONE = ".network.backbone."
"""In the names of a network's weights, which the exporter takes from the module's."""
_FOLLOWING = ("Add", "Clip", "Relu", "Sigmoid", "Mul")
"""Quantised too, where all that they read is, or where they apply a float gate."""
_MEAN = "GlobalAveragePool"
"""Of a branch: ONNX Runtime has a kernel on integers for this one, and none for ReduceMean."""
_MEANS = ("ReduceMean", _MEAN)
_TYPES = ("Conv", *_FOLLOWING, _MEAN)
_EXCITATION = ".se."
"""In the names of the weights of a squeeze-and-excite branch."""


def observe(model: onnx.ModelProto, feeds: Feeds) -> Ranges:
    """Take the ranges of whatever a stage could have quantised.

    Args:
        model: the stage's graph.
        feeds: inputs of it, one for each calibration photo.
    """
    inferred = _read(model, ())
    held = _names(inferred.graph)
    among = (
        name
        for float_excitation in (False, True)
        for node in _network(inferred.graph, (), float_excitation=float_excitation)
        for name in (*node.input, *node.output)
    )
    tensors = list(dict.fromkeys(name for name in among if name and name not in held))
    session = probe.watch(inferred, tensors)
    return feeds.ranges(lambda feed: dict(zip(tensors, session.run(tensors, feed), strict=True)))


def quantize(
    model: onnx.ModelProto,
    observed: Ranges,
    pixels: tuple[float, float],
    *,
    float_excitation: bool = False,
    float_blocks: Sequence[str] = (),
) -> tuple[onnx.ModelProto, Ranges]:
    """Quantise the network of a stage.

    Args:
        model: a stage's graph, which is left as it is.
        observed: the ranges that calibration took of its tensors.
        pixels: black and white, as the network's first convolution reads them.
        float_excitation: compute squeeze-and-excite branches in float.
        float_blocks: modules of the backbone to compute in float.

    Returns:
        the quantised graph, with the same inputs and outputs; and the range of each tensor that is
        quantised.

    Raises:
        ExportError: the graph has no convolution of a network, or none outside of the blocks; or a
            block is a convolution that ONNX Runtime would not leave in float.
    """
    apart = tuple(f"{_BACKBONE}{block}." for block in float_blocks)
    model = _read(model, apart)
    nodes = _network(model.graph, apart, float_excitation=float_excitation)
    if not nodes:
        raise ExportError(
            f"stage {model.graph.name} has no convolution under {_BACKBONE!r} to quantise"
        )
    seen = dict(observed)
    first = next(node for node in model.graph.node if _convolves(node))
    if first.output[0] == nodes[0].output[0]:
        seen[first.input[0]] = pixels
    with quiet():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=_tensors_data(seen),
            nodes_to_quantize=[node.name for node in nodes],
            nodes_to_exclude=[],
            op_types_to_quantize=list(_TYPES),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    quantised.ir_version = IR_VERSION
    quantised.producer_name = "classkinfy-export"
    standard = [entry for entry in quantised.opset_import if entry.domain == ""]
    del quantised.opset_import[:]
    quantised.opset_import.extend(standard)
    del quantised.graph.value_info[:]
    del quantised.metadata_props[:]
    rounded = [n.input[0] for n in quantised.graph.node if n.op_type == "QuantizeLinear"]
    wanted = (*apart, _EXCITATION) if float_excitation else apart
    within = [part for part in wanted if any(part in name for name in _names(quantised.graph))]
    if within:
        quantised = weights.keep(quantised, "weight_only_wi8_afp32", within=within)
    for module in _undone(quantised.graph):
        raise ExportError(
            f"ONNX Runtime would make {module} of stage {model.graph.name} int8 again, with one "
            "scale for all channels: it is a lone float convolution between int8 tensors",
            hint="name all of its block in float_blocks, or what is before or after it, too",
        )
    return quantised, {name: seen[name] for name in rounded}


def _read(model: onnx.ModelProto, apart: Sequence[str]) -> onnx.ModelProto:
    """Return a copy with its shapes, and with the mean of each branch that is int8 as pooling.

    A mean in two steps, which keeps a GPU's half precision from overflowing, is one in int8.

    Args:
        model: a stage's graph.
        apart: in the names of the weights of what stays float.
    """
    copied = onnx.shape_inference.infer_shapes(model)
    graph = copied.graph
    ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in graph.value_info}
    means = {node.output[0]: node for node in graph.node if node.op_type == "ReduceMean"}
    read = [name for node in graph.node for name in node.input]
    for convolution in [n for n in graph.node if _convolves(n) and _EXCITATION in n.input[1]]:
        last = means.get(convolution.input[0])
        if last is None or any(part in convolution.input[1] for part in apart):
            continue
        first = means.get(last.input[0], last)
        shared = first is not last and read.count(first.output[0]) > 1
        if ranks.get(first.input[0]) != 4 or shared:
            continue
        last.CopyFrom(onnx.helper.make_node(_MEAN, first.input[:1], last.output, last.name))
        if first is not last:
            graph.node.remove(first)
    return copied


def floats(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the modules of the backbone whose convolutions a stage's graph computes in float."""
    return tuple(_module(node) for node in _floats(model.graph))


def _floats(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    whole = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    return [n for n in graph.node if _convolves(n) and n.input[1] not in whole]


def _module(convolution: onnx.NodeProto) -> str:
    weight: str = convolution.input[1]
    return weight.partition(_BACKBONE)[2].removesuffix(".weight")


def _undone(graph: onnx.GraphProto) -> Iterator[str]:
    """Give float convolutions that ONNX Runtime makes int8 as it loads a file.

    Its optimizer (``WeightBiasQuantization``, 1.20 and later) does so where one reads a tensor that
    was int8, and what it gives, cut by its ReLU or not, is made int8.
    """
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in _floats(graph):
        source = makers.get(node.input[0])
        reading = readers[node.output[0]]
        while len(reading) == 1 and reading[0].op_type in ("Clip", "Relu"):
            reading = readers[reading[0].output[0]]
        before = source is not None and source.op_type == "DequantizeLinear"
        if before and all(reader.op_type == "QuantizeLinear" for reader in reading):
            yield _module(node)


def _names(graph: onnx.GraphProto) -> set[str]:
    return {tensor.name for tensor in graph.initializer}


def _convolves(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution of a network."""
    return node.op_type == "Conv" and _BACKBONE in node.input[1]


def _network(
    graph: onnx.GraphProto, apart: Sequence[str], *, float_excitation: bool
) -> list[onnx.NodeProto]:
    """Return the nodes to quantise: convolutions, and what stands between them."""
    constants = _names(graph)
    inside: set[str] = set()
    branch: set[str] = set()
    nodes = []
    for node in graph.node:
        read = {name for name in node.input if name and name not in constants}
        convolution = _convolves(node) and not any(block in node.input[1] for block in apart)
        pooled = node.op_type == _MEAN and inside >= read
        if pooled:
            nodes.append(node)
        if float_excitation and (node.op_type in _MEANS or read & branch):
            product = node.op_type == "Mul" and not read <= branch  # of the gate and what it gates
            if not product:
                branch.update(node.output)
            elif inside >= read - branch:
                nodes.append(node)
                inside.update(read, node.output)
        elif pooled:
            inside.update(node.output)
        elif convolution or (node.op_type in _FOLLOWING and read and inside >= read):
            nodes.append(node)
            inside.update(read, node.output)
    return nodes


def _tensors_data(ranges: Ranges) -> TensorsData:
    bounds = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, bounds)
