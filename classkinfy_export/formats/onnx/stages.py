"""Graphs of an assembly's stages: each exported once, and made again in other precisions."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from classkinfy_export.formats.onnx import graph, offset, quantize, weights
from classkinfy_export.precision import (
    Precision,
    calibrated,
    float_excitation,
    rounded_by_photos,
)
from classkinfy_export.quantization.calibration import Feeds
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.quantization.ranges import Ranges
from classkinfy_export.stages.assembly import Assembly


class StageGraphs:
    """What is exported, rounded and observed of a stage is kept for the next precision.

    Args:
        assembly: the stages.
        prepared: their networks made ready, and photos; None where no precision needs any.
        opset: of the graphs.
    """

    def __init__(self, assembly: Assembly, prepared: Prepared | None, opset: int) -> None:
        self._assembly = assembly
        self._prepared = prepared
        self._opset = opset
        self._plain: dict[str, onnx.ModelProto] = {}
        self._rounded: dict[str, onnx.ModelProto] = {}
        self._observed: dict[str, tuple[Feeds, Ranges]] = {}

    def plain(self, stage: str) -> onnx.ModelProto:
        """Return a stage's graph as it is trained, all float."""
        if stage not in self._plain:
            self._plain[stage] = self._export(self._assembly, stage)
        return self._plain[stage]

    def rounded(self, stage: str) -> onnx.ModelProto:
        """Return a stage's graph, all float, its network's weights on the int8 grid by photos."""
        if self._prepared is None or stage not in self._prepared.pixels:
            return self.plain(stage)
        if stage not in self._rounded:
            self._rounded[stage] = self._export(self._prepared.assembly, stage)
        return self._rounded[stage]

    def lighter(
        self, stage: str, precision: Precision, float_blocks: Sequence[str] = ()
    ) -> tuple[onnx.ModelProto, Ranges | None]:
        """Return a stage's graph in another precision, and the ranges that it was made with.

        Args:
            stage: one with weights.
            precision: any but fp32; static ones need photos.
            float_blocks: of static ones, modules of the backbone to compute in float.

        Raises:
            ExportError: the graph cannot be had so.
        """
        source = self.rounded(stage) if rounded_by_photos(precision) else self.plain(stage)
        if not calibrated(precision):
            return weights.keep(source, precision), None
        assert self._prepared is not None
        if stage not in self._observed:
            feeds = self._prepared.calibration.feeds(self._assembly.specs[stage])
            self._observed[stage] = feeds, quantize.observe(source, feeds)
        feeds, seen = self._observed[stage]
        model, ranges = quantize.quantize(
            source,
            seen,
            self._prepared.pixels[stage],
            float_excitation=float_excitation(precision),
            float_blocks=float_blocks,
        )
        offset.correct(model, self._prepared.embeddings[stage], feeds.few)
        self._prepared.calibration.note(f"onnx {stage}/", feeds, ranges)
        return model, ranges

    def _export(self, assembly: Assembly, stage: str) -> onnx.ModelProto:
        return graph.export(assembly.modules[stage], assembly.specs[stage], self._opset)
