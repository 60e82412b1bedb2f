"""One module to one ONNX graph that old and new runtimes read."""

from __future__ import annotations

import onnx
import torch
from onnx_ir.passes.common import DeduplicateInitializersPass
from torch import Tensor, nn

from classkinfy_export.contract import StageSpec
from classkinfy_export.errors import ExportError
from classkinfy_export.formats.tracing import example_inputs, quiet

IR_VERSION = 9
"""What ONNX Runtime 1.17 on the JVM still reads; torch writes a newer number for the same graph."""

_DISTINCT = 2**20
"""Elements of a constant up to which equal ones are looked for, and stored once."""


def export(module: nn.Module, spec: StageSpec, opset: int) -> onnx.ModelProto:
    """Export a stage: static shapes, names from the spec, nothing of this machine in it.

    Args:
        module: called with the spec's inputs in order, returns a dict by output name.
        spec: the stage.
        opset: ONNX opset, 18 to 20.

    Raises:
        ExportError: torch could not export the module, or the names came out wrong.
    """
    outputs = [t.name for t in spec.outputs]
    try:
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                _Ordered(module, outputs),
                tuple(example_inputs(spec).values()),
                input_names=[t.name for t in spec.inputs],
                output_names=outputs,
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"stage {spec.name} does not export to ONNX: {error}") from error
    assert program is not None
    DeduplicateInitializersPass(size_limit=_DISTINCT)(program.model)
    model = program.model_proto
    model.ir_version = IR_VERSION
    model.graph.name = spec.name
    model.producer_name, model.producer_version = "classkinfy-export", ""
    _strip(model)
    _check_names(model, spec)
    return model


class _Ordered(nn.Module):
    """Outputs as a tuple in the spec's order, whatever order the module's dict has."""

    def __init__(self, module: nn.Module, outputs: list[str]) -> None:
        super().__init__()
        self.module = module
        self.outputs = outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        result = self.module(*inputs)
        return tuple(result[name] for name in self.outputs)


def _strip(model: onnx.ModelProto) -> None:
    """Drop stack traces and intermediate shapes: they hold this machine's paths, and weight."""
    del model.metadata_props[:]
    model.doc_string = ""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        graph.doc_string = ""
        del graph.metadata_props[:]
        del graph.value_info[:]
        for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
            item.doc_string = ""
            del item.metadata_props[:]
        for node in graph.node:
            graphs.extend(a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)


def _check_names(model: onnx.ModelProto, spec: StageSpec) -> None:
    for kind, values, tensors in (
        ("inputs", model.graph.input, spec.inputs),
        ("outputs", model.graph.output, spec.outputs),
    ):
        found = [value.name for value in values]
        wanted = [tensor.name for tensor in tensors]
        if found != wanted:
            raise ExportError(f"stage {spec.name} came out with {kind} {found}, not {wanted}")
