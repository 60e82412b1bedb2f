"""Formats that stages are exported to: one folder or file each, behind one Protocol."""

from __future__ import annotations

from classkinfy_export.contract import FormatName
from classkinfy_export.formats.base import Format, Progress

__all__ = ["Format", "Progress", "get"]


def get(name: FormatName) -> Format:
    """Return a format by name; its dependencies are imported now.

    Raises:
        MissingDependencyError: the packages that it converts with are not installed.
    """
    if name == "onnx":
        from classkinfy_export.formats.onnx import OnnxFormat

        return OnnxFormat()
    if name == "litert":
        from classkinfy_export.formats.litert import LitertFormat

        return LitertFormat()
    from classkinfy_export.formats.pytorch import PytorchFormat

    return PytorchFormat()
