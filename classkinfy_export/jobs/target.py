"""Whatever holds a classifier, as a bundle: there is one way to run it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import MANIFEST
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, require
from classkinfy_export.recipes import ExportRecipe

_CHECKPOINTS = (".safetensors", ".pth", ".pt")
_RUN = "metrics.json"


@dataclass(frozen=True)
class Target:
    """What was named, and the bundle that it is or that was made of it."""

    path: Path
    bundle: Bundle
    exported: bool
    """Whether it is a bundle itself; one that was made of weights is gone when it is closed."""


@contextmanager
def opened(path: Path, trusted: Sequence[str] = ()) -> Iterator[Target]:
    """Open a bundle; of a run or a checkpoint, make one that holds PyTorch alone.

    Args:
        path: a bundle, a training run's folder, or a checkpoint of a classifier.
        trusted: public keys, one of which has to have signed a bundle; others carry no signature.

    Raises:
        BundleError: it is none of these.
        CheckpointError: a checkpoint cannot be read.
        MissingDependencyError: weights need torch.
    """
    if path.suffix == writer.ARCHIVE_SUFFIX or (path / MANIFEST).is_file():
        yield Target(path, Bundle.open(path, trusted), exported=True)
        return
    run = (path / _RUN).is_file()
    if not run and not (path.is_file() and path.suffix in _CHECKPOINTS):
        raise BundleError(
            f"{path} is no bundle, no finished training run and no checkpoint",
            hint="give what 'classkinfy export' or 'classkinfy train' wrote",
        )
    require("torch", extra="train", purpose="reading weights")
    from classkinfy_export.jobs import export
    from classkinfy_export.jobs.sources import Sources

    recipe = ExportRecipe(name="target", formats=("pytorch",), golden=False)
    sources = Sources.from_run(path) if run else Sources.from_files(path, {}, recipe)
    info = sources.classifier.info
    if info.working_size is not None:
        capture = recipe.capture.model_copy(update=info.working_size.model_dump())
        recipe = recipe.model_copy(update={"capture": capture})
    with tempfile.TemporaryDirectory(prefix="classkinfy.") as temporary:
        made = export.export(sources, recipe, Path(temporary) / "bundle")
        yield Target(path, made, exported=False)
