"""An assembly's stages in LiteRT, one by one, in any precision."""

from __future__ import annotations

from collections.abc import Sequence

from classkinfy_export.contract import decide_spec, select_spec
from classkinfy_export.formats.litert import conversion, networks, offset, quantize, weights
from classkinfy_export.formats.litert.compose import Stage
from classkinfy_export.precision import (
    Precision,
    calibrated,
    float_excitation,
    rounded_by_photos,
)
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.stages.assembly import Assembly


class StageModels:
    """What is converted of a stage is kept for the next precision.

    Args:
        assembly: the stages.
        prepared: their networks made ready, and photos; None where no precision needs any.
    """

    def __init__(self, assembly: Assembly, prepared: Prepared | None) -> None:
        self._assembly = assembly
        self._prepared = prepared
        self._plain: dict[str, bytes] = {}
        self._rounded: dict[str, bytes] = {}

    def plain(self, stage: str) -> bytes:
        """Return a stage as it is trained, all float; ``decide`` and ``select`` are some, too."""
        if stage not in self._plain:
            self._plain[stage] = self._convert(self._assembly, stage)
        return self._plain[stage]

    def lighter(self, stage: str, precision: Precision, float_blocks: Sequence[str] = ()) -> Stage:
        """Return a stage in another precision.

        Args:
            stage: one with weights.
            precision: any but fp32; static ones need photos.
            float_blocks: of static ones, modules of the backbone to compute in float.

        Raises:
            ExportError: the stage cannot be had so.
        """
        source = self._ready(stage) if rounded_by_photos(precision) else self.plain(stage)
        if not calibrated(precision):
            return Stage(weights.keep(source, precision))
        assert self._prepared is not None
        feeds = self._prepared.calibration.feeds(self._assembly.specs[stage])
        data, ranges = quantize.quantize(
            source,
            feeds,
            self._prepared.pixels[stage],
            float_excitation=float_excitation(precision),
            float_blocks=float_blocks,
        )
        data = offset.correct(data, self._prepared.embeddings[stage], feeds)
        self._prepared.calibration.note("litert ", feeds, ranges)
        return Stage(data, ranges, networks.floats(data))

    def _ready(self, stage: str) -> bytes:
        if self._prepared is None or stage not in self._prepared.pixels:
            return self.plain(stage)
        if stage not in self._rounded:
            self._rounded[stage] = self._convert(self._prepared.assembly, stage)
        return self._rounded[stage]

    def _convert(self, assembly: Assembly, stage: str) -> bytes:
        fused, pipeline = assembly.pipeline_spec, assembly.pipeline
        if stage == "decide":
            return conversion.convert(pipeline.decide, decide_spec(fused))
        if stage == "select":
            heads = tuple(name for name, spec in assembly.specs.items() if spec.kind == "grade")
            return conversion.convert(pipeline.select, select_spec(fused, heads))
        return conversion.convert(assembly.modules[stage], assembly.specs[stage])
