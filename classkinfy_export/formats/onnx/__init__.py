"""ONNX: one file a stage, and the fused graph composed from those very files."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from classkinfy_export import __version__
from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.errors import require
from classkinfy_export.formats.base import Progress
from classkinfy_export.formats.onnx import compose, graph
from classkinfy_export.recipes import ExportRecipe, FormatName
from classkinfy_export.stages.assembly import Assembly
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE


class OnnxFormat:
    """Opset and IR as phones read them; see ``graph``."""

    name: FormatName = "onnx"

    def __init__(self) -> None:
        require("onnxscript", extra="export", purpose="exporting to ONNX")

    def steps(self, assembly: Assembly, recipe: ExportRecipe) -> int:
        """Return the number of progress calls."""
        return len(assembly.modules) + ("fused" in recipe.forms)

    def export(
        self, assembly: Assembly, recipe: ExportRecipe, folder: Path, progress: Progress
    ) -> list[ModelFile]:
        """Write the files; see ``Format.export``."""
        target = folder / "models" / self.name
        target.mkdir(parents=True)
        stages = {}
        for stage, module in assembly.modules.items():
            progress(f"onnx: {stage}")
            stages[stage] = graph.export(module, assembly.specs[stage], recipe.opset)
        models = dict(stages) if "staged" in recipe.forms else {}
        if "fused" in recipe.forms:
            progress(f"onnx: {PIPELINE}")
            models[PIPELINE] = compose.fuse(stages, assembly, recipe.opset)
        written = []
        for stage, model in models.items():
            onnx.helper.set_model_props(model, self._metadata(stage, assembly))
            onnx.checker.check_model(model, full_check=True)
            path = target / f"{stage}.onnx"
            path.write_bytes(model.SerializeToString(deterministic=True))
            written.append(
                ModelFile(
                    path=path.relative_to(folder).as_posix(),
                    format=self.name,
                    precision="fp32",
                    entries={stage: model.graph.name},
                )
            )
        return written

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
