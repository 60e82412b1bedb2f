"""The fused graph, composed from the stage graphs: the same nodes and weights, wired together.

::

    image ─ prepare ─ clean ─┬─ screen ─ preliminary
               │             └─────────────┴─ classify ─ probabilities
               └───── quality ─────────────────────────────── decide ─ accepted, reasons,
                                                                 │     diagnosis, confidence
                                           diagnosis == 0 ? grade_akiec :
                                           diagnosis == 1 ? grade_bcc   : … NaN ─ severity

Each ``?`` is an ``If`` node. A runtime runs one branch, so an image costs one grader. Composing,
rather than tracing the whole pipeline, keeps each weight in the file once, and lets stages be
quantised on their own first: quantisers do not look into ``If`` bodies.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from classkinfy_export.contract import TensorSpec, decide_spec
from classkinfy_export.errors import ExportError
from classkinfy_export.formats.onnx import graph as stage_graph
from classkinfy_export.formats.onnx.graph import IR_VERSION
from classkinfy_export.stages.assembly import Assembly

_ELEMENT = {
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "float32": TensorProto.FLOAT,
}


def fuse(stages: dict[str, onnx.ModelProto], assembly: Assembly, opset: int) -> onnx.ModelProto:
    """Compose the pipeline.

    Args:
        stages: the exported stage graphs, by name.
        assembly: the stages they came from.
        opset: the opset that all of them have.

    Raises:
        ExportError: a stage graph has local functions, which cannot be inlined here.
    """
    spec = assembly.pipeline_spec
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    for name in [name for name, stage in assembly.specs.items() if stage.kind != "grade"]:
        part = _body(stages[name], name)
        nodes.extend(part.node)
        weights.extend(part.initializer)
    decide = _body(stage_graph.export(assembly.decide, decide_spec(spec), opset), "decide")
    nodes.extend(decide.node)
    weights.extend(decide.initializer)

    graders = [
        (assembly.taxonomy.index(stage.diagnosis), stages[name])
        for name, stage in assembly.specs.items()
        if stage.diagnosis is not None
    ]
    severity = next(t for t in spec.outputs if t.name == "severity")
    routed = _route(graders, severity)
    nodes.extend(routed.node)
    weights.extend(routed.initializer)

    composed = helper.make_graph(
        nodes,
        spec.name,
        [_value(t) for t in spec.inputs],
        [_value(t) for t in spec.outputs],
        weights,
    )
    return helper.make_model(
        composed,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSION,
        producer_name="classkinfy-export",
    )


def _route(graders: list[tuple[int, onnx.ModelProto]], severity: TensorSpec) -> onnx.GraphProto:
    """Nest the graders, last first; the innermost ``else`` is the NaN of an ungraded class."""
    nan = numpy_helper.from_array(np.full(severity.shape, np.nan, np.float32), "ungraded_value")
    chain = helper.make_graph(
        [helper.make_node("Identity", ["ungraded_value"], [severity.name], "ungraded")],
        "ungraded",
        [],
        [_value(severity)],
        [nan],
    )
    for index, model in reversed(graders):
        name = model.graph.name
        body = _body(model, name)
        del body.input[:]  # a branch reads the outer graph's tensors by name
        route, hit = f"{name}/route", f"{name}/hit"
        chain = helper.make_graph(
            [
                helper.make_node("Equal", ["diagnosis", route], [hit + "_1"], hit + "_1"),
                helper.make_node("Squeeze", [hit + "_1"], [hit], hit),
                helper.make_node(
                    "If",
                    [hit],
                    [severity.name],
                    f"{name}/if",
                    then_branch=_returning(body, severity, f"{name}/severity"),
                    else_branch=_returning(chain, severity, f"{name}/otherwise"),
                ),
            ],
            f"route_{name}",
            [],
            [_value(severity)],
            [numpy_helper.from_array(np.array([index], np.int32), route)],
        )
    return chain


def _returning(branch: onnx.GraphProto, severity: TensorSpec, name: str) -> onnx.GraphProto:
    """Give a branch's output a name of its own: ONNX forbids shadowing the outer graph's."""
    for node in branch.node:
        for i, output in enumerate(node.output):
            if output == severity.name:
                node.output[i] = name
    del branch.output[:]
    branch.output.append(_value(severity.model_copy(update={"name": name})))
    return branch


def _body(model: onnx.ModelProto, prefix: str) -> onnx.GraphProto:
    """Copy a graph, its inner names prefixed so that graphs can stand side by side."""
    if model.functions:
        raise ExportError(
            f"stage {model.graph.name} has local functions: {model.functions[0].name}"
        )
    body = onnx.GraphProto()
    body.CopyFrom(model.graph)
    public = {value.name for value in (*body.input, *body.output)}

    def rename(name: str) -> str:
        return name if not name or name in public else f"{prefix}/{name}"

    for tensor in body.initializer:
        tensor.name = rename(tensor.name)
    for node in body.node:
        node.name = f"{prefix}/{node.name}"
        for names in (node.input, node.output):
            names[:] = [rename(name) for name in names]
    return body


def _value(tensor: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _ELEMENT[tensor.dtype], tensor.shape)
