"""ONNX: one file a stage, and the fused graph composed from those very files."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from classkinfy_export import __version__
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.contract import FormatName
from classkinfy_export.errors import require
from classkinfy_export.formats.base import Progress, written_again
from classkinfy_export.formats.onnx import compose, quantize
from classkinfy_export.formats.onnx.stages import StageGraphs
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.quantization.ranges import write
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import Assembly
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE


class OnnxFormat:
    """Opset and IR as phones read them; see ``graph``."""

    name: FormatName = "onnx"

    def __init__(self) -> None:
        require("onnxscript", extra="export", purpose="exporting to ONNX")

    def steps(self, assembly: Assembly, recipe: ExportRecipe) -> int:
        """Return the number of progress calls."""
        stages = len(assembly.modules)
        for precision in recipe.precisions:
            stages += ("fused" in recipe.forms) + len(written_again(assembly, precision))
        return stages

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
        graphs = StageGraphs(assembly, prepared, recipe.opset)
        exported = {}
        for stage in assembly.modules:
            progress(f"onnx: {stage}")
            exported[stage] = graphs.plain(stage)
        written = []
        for precision in recipe.precisions:
            stages, ranges, floats = dict(exported), {}, {}
            for stage in written_again(assembly, precision):
                progress(f"onnx: {stage}, {precision}")
                apart = recipe.blocks_in_float(stage, self.name)
                stages[stage], seen = graphs.lighter(stage, precision, apart)
                if seen is not None:
                    ranges[stage] = seen
                    floats[stage] = quantize.floats(stages[stage])
            models = dict(stages) if "staged" in recipe.forms else {}
            if "fused" in recipe.forms:
                progress(f"onnx: {PIPELINE}, {precision}")
                models[PIPELINE] = compose.fuse(stages, assembly, recipe.opset)
                if ranges:
                    ranges[PIPELINE] = {
                        f"{stage}/{name}": bounds
                        for stage, own in ranges.items()
                        for name, bounds in own.items()
                    }
                    floats[PIPELINE] = tuple(
                        f"{stage}/{module}" for stage, own in floats.items() for module in own
                    )
            for stage, model in models.items():
                own = precision != "fp32" and model is not exported.get(stage)
                name = f"{stage}.{precision}" if own else stage
                written.append(
                    ModelFile(
                        path=self._write(target / f"{name}.onnx", model, stage, assembly),
                        format=self.name,
                        precision=precision,
                        entries={stage: model.graph.name},
                        ranges=write(target, name, ranges[stage]) if stage in ranges else None,
                        floats={stage: floats[stage]} if stage in floats else None,
                    )
                )
        return written

    def _write(self, path: Path, model: onnx.ModelProto, stage: str, assembly: Assembly) -> str:
        """Write a model, unless another precision did, and return its path in the bundle."""
        if not path.exists():
            onnx.helper.set_model_props(model, self._metadata(stage, assembly))
            onnx.checker.check_model(model, full_check=True)
            path.write_bytes(model.SerializeToString(deterministic=True))
        return f"models/{self.name}/{path.name}"

    def _metadata(self, stage: str, assembly: Assembly) -> dict[str, str]:
        metadata = {
            "disclaimer": DISCLAIMER,
            "labels": json.dumps(assembly.taxonomy.classes),
            "severities": json.dumps(assembly.taxonomy.severities),
            "severity_notice": PROXY_NOTICE,
            "toolkit": f"classkinfy-export {__version__}",
        }
        sources = assembly.checkpoints if stage == PIPELINE else {stage: None}
        for name in sources:
            if name in assembly.checkpoints:
                weights = assembly.checkpoints[name]
                if weights.info.network is not None:
                    metadata[f"{name}.network"] = weights.info.network.model_dump_json()
                metadata[f"{name}.weights_sha256"] = weights.sha256
                metadata[f"{name}.weights_licence"] = weights.info.weights_licence
        return metadata
