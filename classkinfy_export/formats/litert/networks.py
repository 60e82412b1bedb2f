"""The network in a stage's LiteRT file: which of its operators are made int8, found by name.

Names of operators' outputs tell of the modules that they come from, each after its class::

    …_backbone/…Sequential_blocks/…Sequential_1/…InvertedResidual_0/…Conv2d_conv_pw;1
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer.qtyping import TFLOperationName

from classkinfy_export.errors import ExportError

BACKBONE = "_backbone/"
CONVOLUTIONS = {
    schema.BuiltinOperator.CONV_2D: TFLOperationName.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: TFLOperationName.DEPTHWISE_CONV_2D,
}
FOLLOWING = {
    schema.BuiltinOperator.ADD: TFLOperationName.ADD,
    schema.BuiltinOperator.MUL: TFLOperationName.MUL,
    schema.BuiltinOperator.LOGISTIC: TFLOperationName.LOGISTIC,
    schema.BuiltinOperator.PAD: TFLOperationName.PAD,
}
"""Quantised too, where all that they read is, or where they apply a float gate."""
MEAN = {schema.BuiltinOperator.MEAN: TFLOperationName.MEAN}
"""Likewise, where it begins a squeeze-and-excite branch."""
_EXCITATION = re.compile(r"_se[;/]")


@dataclass
class Network:
    """The operators of a stage's network that are quantised, in order, and their activations."""

    signature: str
    subgraph: int
    operators: list[tuple[int, str]] = field(default_factory=list)
    """Their kinds, and the names of their outputs."""
    tensors: dict[int, str] = field(default_factory=dict)
    """Names of activations by their index in the subgraph."""
    shares: set[int] = field(default_factory=set)
    """Of these, what sigmoids give."""
    padded: dict[int, int] = field(default_factory=dict)
    """Of these, what padding gives, and what it was given."""
    pixels: int | None = None
    """Of these, what the network reads; None where its first convolution stays float."""
    floats: list[str] = field(default_factory=list)
    """Names of convolutions that stay float."""


def find(model: bytes, *, float_excitation: bool, float_blocks: Sequence[str]) -> Network:
    """Find the network of a stage.

    Args:
        model: the stage's LiteRT file, all float.
        float_excitation: leave squeeze-and-excite branches in float.
        float_blocks: modules of the backbone to leave in float.

    Raises:
        ExportError: there is no convolution of a network, or none in one of the blocks, or none
            outside of them.
    """
    scopes = [re.compile(_scope(block)) for block in float_blocks]
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    (signature,) = parsed.signatureDefs
    network = _read(parsed, signature, [_EXCITATION, *scopes] if float_excitation else scopes)
    if not network.operators:
        raise ExportError(f"{network.signature} has no convolution under {BACKBONE!r} to quantise")
    for block, scope in zip(float_blocks, scopes, strict=True):
        if not any(map(scope.search, network.floats)):
            raise ExportError(
                f"{network.signature} has no convolution named after {block!r} to leave in float",
                hint="leave it out of float_blocks, or litert out of formats",
            )
    return network


def floats(model: bytes) -> tuple[str, ...]:
    """Return modules of the backbone whose convolutions a stage's file computes in float."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    (signature,) = parsed.signatureDefs
    graph = parsed.subgraphs[signature.subgraphIndex]
    weights = (
        _name(graph, int(operator.inputs[1]))
        for operator in graph.operators
        if _kind(parsed, operator) in CONVOLUTIONS
        and graph.tensors[operator.inputs[0]].type == schema.TensorType.FLOAT32
    )
    return tuple(dict.fromkeys(_module(name) for name in weights if BACKBONE in name))


def _module(weight: str) -> str:
    """Return the module, as timm names it, that a weight is of: outputs tell of what was fused."""
    parts = weight.partition(BACKBONE)[2].partition(";")[0].split("/")
    return ".".join(part.rpartition(".")[2].partition("_")[2] for part in parts if part)


def _kind(parsed: Any, operator: Any) -> int:  # noqa: ANN401
    code = parsed.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _scope(block: str) -> str:
    modules = "/".join(rf"[^/;]*_{re.escape(part)}" for part in block.split("."))
    return f"{BACKBONE}{modules}[/;]"


def _read(parsed: Any, signature: Any, apart: Sequence[re.Pattern[str]]) -> Network:  # noqa: ANN401  (untyped upstream)
    graph = parsed.subgraphs[signature.subgraphIndex]
    network = Network(signature.signatureKey.decode(), int(signature.subgraphIndex))
    inside: set[int] = set()
    for operator in graph.operators:
        kind = _kind(parsed, operator)
        output = int(operator.outputs[0])
        name = _name(graph, output)
        if BACKBONE not in name:
            continue
        read = [int(i) for i in operator.inputs if i >= 0 and not _constant(parsed, graph, i)]
        excites = _EXCITATION.search(name)
        follows = FOLLOWING | MEAN if excites else FOLLOWING
        gated = kind == schema.BuiltinOperator.MUL and excites and inside & {*read}
        if kind in CONVOLUTIONS and any(scope.search(name) for scope in apart):
            network.floats.append(name)
        elif kind in CONVOLUTIONS or gated or (kind in follows and inside.issuperset(read)):
            # A branch in float begins behind its mean.
            begins = kind in MEAN and _EXCITATION in apart
            inside.update(read, () if begins else [output])
            if not (network.operators or network.floats):
                network.pixels = read[0]
            network.operators.append((kind, name))
            network.tensors |= {index: _name(graph, index) for index in (*read, output)}
            if kind == schema.BuiltinOperator.LOGISTIC:
                network.shares.add(output)
            elif kind == schema.BuiltinOperator.PAD:
                network.padded[output] = read[0]
    return network


def _name(graph: Any, index: int) -> str:  # noqa: ANN401
    name: str = graph.tensors[index].name.decode()
    return name


def _constant(model: Any, graph: Any, index: int) -> bool:  # noqa: ANN401
    buffer = model.buffers[graph.tensors[index].buffer]
    return buffer.data is not None or bool(buffer.size)
