"""Whatever holds a classifier, as a bundle: there is one way to run it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import MANIFEST
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, require
from classkinfy_export.recipes import ExportRecipe

_CHECKPOINTS = (".safetensors", ".pth", ".pt")
_RUN = "metrics.json"


def is_bundle(target: Path) -> bool:
    """Tell a bundle from a run and a checkpoint, by its name and what it holds."""
    return target.suffix == writer.ARCHIVE_SUFFIX or (target / MANIFEST).is_file()


@contextmanager
def opened(target: Path) -> Iterator[Bundle]:
    """Open a bundle; of a run or a checkpoint, make one that holds PyTorch alone.

    Args:
        target: a bundle, a training run's folder, or a checkpoint of a classifier.

    Raises:
        BundleError: it is none of these.
        CheckpointError: a checkpoint cannot be read.
        MissingDependencyError: weights need torch.
    """
    if is_bundle(target):
        yield Bundle.open(target)
        return
    run = (target / _RUN).is_file()
    if not run and not (target.is_file() and target.suffix in _CHECKPOINTS):
        raise BundleError(
            f"{target} is no bundle, no finished training run and no checkpoint",
            hint="give what 'classkinfy export' or 'classkinfy train' wrote",
        )
    require("torch", extra="train", purpose="reading weights")
    from classkinfy_export.jobs import export

    recipe = ExportRecipe(name="target", formats=("pytorch",), golden=False)
    sources = export.from_run(target) if run else export.from_files(target, {}, recipe)
    info = sources.classifier.info
    if info.hair_removal is not None:
        recipe = recipe.model_copy(update={"hair_removal": info.hair_removal})
    if info.working_size is not None:
        capture = recipe.capture.model_copy(update=info.working_size.model_dump())
        recipe = recipe.model_copy(update={"capture": capture})
    with tempfile.TemporaryDirectory(prefix="classkinfy.") as temporary:
        yield export.export(sources, recipe, Path(temporary) / "bundle")
