"""The PyTorch weights as a format: the reference that other formats are verified against."""

from __future__ import annotations

from pathlib import Path

from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.contract import FormatName
from classkinfy_export.formats.base import Progress
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages import checkpoint
from classkinfy_export.stages.assembly import Assembly


class PytorchFormat:
    """Checkpoints in safetensors, one for each stage that has weights."""

    name: FormatName = "pytorch"

    def steps(self, assembly: Assembly, recipe: ExportRecipe) -> int:
        """Return the number of progress calls."""
        return 1

    def export(
        self,
        assembly: Assembly,
        recipe: ExportRecipe,
        prepared: Prepared | None,
        folder: Path,
        progress: Progress,
    ) -> list[ModelFile]:
        """Write the checkpoints; see ``Format.export``."""
        progress("pytorch: weights")
        target = folder / "models" / self.name
        target.mkdir(parents=True)
        written = []
        for stage, weights in assembly.checkpoints.items():
            path = target / f"{stage}{checkpoint.SUFFIX}"
            path.write_bytes(checkpoint.to_bytes(weights))
            entries = {stage: stage}
            if stage == "classify":
                # Stages without weights are built from the manifest alone.
                entries |= {"prepare": "prepare", PIPELINE: PIPELINE}
            written.append(
                ModelFile(
                    path=path.relative_to(folder).as_posix(),
                    format=self.name,
                    precision="fp32",
                    entries=entries,
                )
            )
        return written
