"""What a format does: write an assembly's stages as model files, and say which file holds what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from classkinfy_export.bundle.manifest import ModelFile
from classkinfy_export.contract import FormatName
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import Assembly

Progress = Callable[[str], None]
"""Called with what is about to be done."""


def written_again(assembly: Assembly, precision: Precision) -> tuple[str, ...]:
    """Return the stages that a precision changes; heads on the trunk are computed in float."""
    if precision == "fp32":
        return ()
    return assembly.networks() if calibrated(precision) else assembly.weighted()


class Format(Protocol):
    """A model file format.

    Every format passes the contract tests in ``tests/formats``: each stage gives the same tensors
    as its module, by the names in its spec.
    """

    name: FormatName

    def steps(self, assembly: Assembly, recipe: ExportRecipe) -> int:
        """Return how often ``export`` will call ``progress``."""

    def export(
        self,
        assembly: Assembly,
        recipe: ExportRecipe,
        prepared: Prepared | None,
        folder: Path,
        progress: Progress,
    ) -> list[ModelFile]:
        """Write model files below ``folder / "models" / name``.

        Args:
            assembly: the stages.
            recipe: forms and precisions wanted.
            prepared: networks and photos, where a static precision is wanted.
            folder: the bundle's folder.
            progress: called before each step.

        Returns:
            the files written, with paths relative to ``folder``; a file whose stages have nothing
            to quantise once for each precision.

        Raises:
            ExportError: a conversion failed, or the format cannot hold what the recipe asks.
        """
