"""LiteRT: a file of signatures for what always runs together, a file for each separate grader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.contract import FormatName
from classkinfy_export.errors import ExportError, require
from classkinfy_export.formats.base import Progress, written_again
from classkinfy_export.precision import calibrated
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.quantization.ranges import write
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
        files = _files(assembly, recipe)
        again = (len(written_again(assembly, precision)) for precision in recipe.precisions)
        stages = len(assembly.modules) + len(_decision(files)) + sum(again)
        return stages + len(files) * len(recipe.precisions)

    def export(
        self,
        assembly: Assembly,
        recipe: ExportRecipe,
        prepared: Prepared | None,
        folder: Path,
        progress: Progress,
    ) -> list[ModelFile]:
        """Write the files; see ``Format.export``."""
        from classkinfy_export.formats.litert.compose import Stage, compose
        from classkinfy_export.formats.litert.stages import StageModels

        files = _files(assembly, recipe)
        target = folder / "models" / self.name
        target.mkdir(parents=True)
        models = StageModels(assembly, prepared)
        plain = {}
        for stage in (*assembly.modules, *_decision(files)):
            progress(f"litert: {stage}")
            plain[stage] = Stage(models.plain(stage))
        written = []
        for precision in recipe.precisions:
            stages = dict(plain)
            for stage in written_again(assembly, precision):
                progress(f"litert: {stage}, {precision}")
                apart = recipe.blocks_in_float(stage, self.name)
                stages[stage] = models.lighter(stage, precision, apart)
            for name, entries in files.items():
                file = name if precision == "fp32" else f"{name}.{precision}"
                progress(f"litert: {file} ({', '.join(entries)})")
                composed = compose(entries, stages, assembly)
                (target / f"{file}.tflite").write_bytes(composed.data)
                static = calibrated(precision)
                written.append(
                    ModelFile(
                        path=f"models/{self.name}/{file}.tflite",
                        format=self.name,
                        precision=precision,
                        entries={entry: entry for entry in entries},
                        ranges=write(target, file, composed.ranges) if static else None,
                        floats=composed.floats if static else None,
                    )
                )
        return written


def _files(assembly: Assembly, recipe: ExportRecipe) -> dict[str, tuple[str, ...]]:
    """Which signatures go into which file."""
    main: list[str] = []
    apart: list[str] = []
    if "staged" in recipe.forms:
        for name, spec in assembly.specs.items():
            separate = assembly.variant == "separate" and spec.kind == "grade"
            (apart if separate else main).append(name)
    if "fused" in recipe.forms and assembly.variant != "separate":
        main.append(PIPELINE)
    if not main:
        raise ExportError(
            "LiteRT has no control flow, so separate graders cannot be in one fused graph",
            hint="add 'staged' to forms, or train graders with variant 'trunk'",
        )
    return {MAIN: tuple(main), **{name: (name,) for name in apart}}


def _decision(files: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return what a fused graph has beside the stages, where there is one."""
    return ("decide", "select") if PIPELINE in files[MAIN] else ()
