"""LiteRT: a file of signatures for what always runs together, a file for each separate grader."""

from __future__ import annotations

import gc
from pathlib import Path

from torch import nn

from classkinfy_export import precision as precisions
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.contract import StageSpec
from classkinfy_export.errors import ExportError, require
from classkinfy_export.formats.base import Progress
from classkinfy_export.formats.litert import signatures
from classkinfy_export.quantization import ranges as calibrated
from classkinfy_export.quantization.calibration import CalibrationSet
from classkinfy_export.recipes import ExportRecipe, FormatName
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
        return len(_files(assembly, recipe)) * (1 + len(set(recipe.precisions) - {"fp32"}))

    def export(
        self,
        assembly: Assembly,
        recipe: ExportRecipe,
        calibration: CalibrationSet | None,
        folder: Path,
        progress: Progress,
    ) -> list[ModelFile]:
        """Write the files; see ``Format.export``."""
        target = folder / "models" / self.name
        target.mkdir(parents=True)
        written = []
        for name, stages in _files(assembly, recipe).items():
            progress(f"litert: {name} ({', '.join(stages)})")
            model = signatures.convert(stages)
            gc.collect()
            for precision in recipe.precisions:
                file, data, ranges = name, model, None
                if precision != "fp32":
                    file = f"{name}.{precision}"
                    progress(f"litert: {file}")
                if precisions.calibrated(precision):
                    from classkinfy_export.formats.litert import quantize

                    assert calibration is not None
                    networks = [stage for stage in stages if stage in assembly.networks()]
                    feeds = {stage: calibration.feeds(stages[stage][1]) for stage in networks}
                    data, found = quantize.quantize(model, feeds)
                    ranges = calibrated.write(target, file, found)
                elif precision != "fp32":
                    from classkinfy_export.formats.litert import weights

                    data = weights.keep(model, precision)
                (target / f"{file}.tflite").write_bytes(data)
                written.append(
                    ModelFile(
                        path=f"models/{self.name}/{file}.tflite",
                        format=self.name,
                        precision=precision,
                        entries={stage: stage for stage in stages},
                        ranges=ranges,
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
