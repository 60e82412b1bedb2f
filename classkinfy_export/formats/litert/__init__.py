"""LiteRT: a file of signatures for what always runs together, a file for each separate grader."""

from __future__ import annotations

import gc
from pathlib import Path

from torch import nn

from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.contract import FormatName, StageSpec
from classkinfy_export.errors import ExportError, require
from classkinfy_export.formats.base import Progress
from classkinfy_export.formats.litert import signatures
from classkinfy_export.precision import calibrated, float_excitation, rounded_by_photos
from classkinfy_export.quantization import ranges
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import Assembly

MAIN = "main"


class LitertFormat:
    """TFLite flatbuffers, signatures named after stages."""

    name: FormatName = "litert"

    def __init__(self) -> None:
        for module in ("litert_torch", "ai_edge_quantizer"):
            require(module, extra="litert", purpose="exporting to LiteRT")

    def steps(self, assembly: Assembly, recipe: ExportRecipe) -> int:
        """Return the number of progress calls."""
        return len(_files(assembly, recipe)) * len(recipe.precisions)

    def export(
        self,
        assembly: Assembly,
        recipe: ExportRecipe,
        prepared: Prepared | None,
        folder: Path,
        progress: Progress,
    ) -> list[ModelFile]:
        """Write the files; see ``Format.export``."""
        target = folder / "models" / self.name
        target.mkdir(parents=True)
        written = []
        ready = {} if prepared is None else _files(prepared.assembly, recipe)
        for name, stages in _files(assembly, recipe).items():
            converted: dict[bool, bytes] = {}
            for precision in recipe.precisions:
                file = name if precision == "fp32" else f"{name}.{precision}"
                progress(f"litert: {file} ({', '.join(stages)})")
                rounded = rounded_by_photos(precision) and prepared is not None
                if rounded not in converted:
                    converted[rounded] = signatures.convert(ready[name] if rounded else stages)
                    gc.collect()
                data, seen, floats = converted[rounded], None, None
                if calibrated(precision):
                    from classkinfy_export.formats.litert import networks, offset, quantize

                    assert prepared is not None
                    feeds = {
                        stage: prepared.calibration.feeds(stages[stage][1])
                        for stage in stages
                        if stage in prepared.pixels
                    }
                    data, found = quantize.quantize(
                        data,
                        feeds,
                        prepared.pixels,
                        float_excitation=float_excitation(precision),
                        float_blocks=tuple(
                            block
                            for stage in feeds
                            for block in recipe.blocks_in_float(stage, self.name)
                        ),
                    )
                    data = offset.correct(data, prepared.embeddings, feeds)
                    for own in feeds.values():
                        prepared.calibration.note(f"{self.name} ", own, found)
                    seen = ranges.write(target, file, found)
                    floats = {
                        entry: modules
                        for entry, modules in networks.floats(data).items()
                        if entry in feeds or entry == PIPELINE
                    }
                elif precision != "fp32":
                    from classkinfy_export.formats.litert import weights

                    data = weights.keep(data, precision)
                (target / f"{file}.tflite").write_bytes(data)
                written.append(
                    ModelFile(
                        path=f"models/{self.name}/{file}.tflite",
                        format=self.name,
                        precision=precision,
                        entries={stage: stage for stage in stages},
                        ranges=seen,
                        floats=floats,
                    )
                )
        return written


def _files(
    assembly: Assembly, recipe: ExportRecipe
) -> dict[str, dict[str, tuple[nn.Module, StageSpec]]]:
    """Which stages go into which file."""
    stages = {name: (assembly.modules[name], assembly.specs[name]) for name in assembly.modules}
    main, apart = {}, {}
    if "staged" in recipe.forms:
        for name, stage in stages.items():
            if assembly.variant == "separate" and assembly.specs[name].kind == "grade":
                apart[name] = {name: stage}
            else:
                main[name] = stage
    if "fused" in recipe.forms and assembly.variant != "separate":
        main[PIPELINE] = (assembly.pipeline, assembly.pipeline_spec)
    if not main:
        raise ExportError(
            "LiteRT has no control flow, so separate graders cannot be in one fused graph",
            hint="add 'staged' to forms, or train graders with variant 'trunk'",
        )
    return {MAIN: main, **apart}
