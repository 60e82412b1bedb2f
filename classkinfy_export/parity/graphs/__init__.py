"""Model files as graphs that can be taken apart: one file a format, behind one base class."""

from __future__ import annotations

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.bundle.parsing import parsing
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import require
from classkinfy_export.parity.graphs.base import Graph, Operator

__all__ = ["Graph", "Operator", "read"]


def read(bundle: Bundle, model: ModelFile, stage: str) -> Graph:
    """Read the graph of one stage.

    Args:
        bundle: that holds the file.
        model: the file.
        stage: one of its entries.

    Raises:
        BundleError: the file is damaged, or the graph has operators that cannot be taken out of it.
        MissingDependencyError: the packages that read its format are not installed.
    """
    data, entry = bundle.read(model.path), model.entries[stage]
    if model.format == "onnx":
        require("onnx", extra="export", purpose="taking an ONNX file apart")
        from classkinfy_export.parity.graphs.onnx import OnnxGraph

        with parsing(model.path):
            return OnnxGraph(data)
    require("ai_edge_litert", extra="litert", purpose="taking a LiteRT file apart")
    from classkinfy_export.parity.graphs.litert import LitertGraph

    with parsing(model.path):
        return LitertGraph(data, entry)
