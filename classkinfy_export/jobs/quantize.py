"""More precisions for a bundle: its own weights and recipe, exported again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError, RecipeError
from classkinfy_export.evaluation.search import Search
from classkinfy_export.jobs import export, of_bundle
from classkinfy_export.precision import calibrated, rounded_by_photos


class Quantised(NamedTuple):
    """A new bundle, and the names of the old one's evidence that does not hold for it."""

    bundle: Bundle
    left_out: tuple[str, ...]


def quantize(
    bundle: Bundle,
    out: Path,
    precisions: Sequence[str],
    *,
    calibration: Path | None = None,
    split: Path | None = None,
    overrides: tuple[str, ...] = (),
    overwrite: bool = False,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Quantised:
    """Write a bundle that holds more precisions than another: as ``export`` would have written it.

    All whose weights are int8 are made anew, also those that the bundle holds already: a bundle has
    one calibration set.

    The run's accuracy is of these very weights in float, and is carried over where the bundle's
    card, which is pinned, tells the same figures. Other evidence is of the files of the old bundle.

    Args:
        bundle: an opened bundle with weights in format ``pytorch``.
        out: the new bundle's folder, or its ``.ckb`` archive.
        precisions: to add, in this order, to those that it holds.
        calibration: photos or a data set, as of ``export``.
        split: of these photos; a bundle does not bring its run's.
        overrides: of ``calibration``, ``float_blocks`` and ``qat`` over the bundle's recipe.
        overwrite: replace what is at ``out``.
        report: told of each step.

    Raises:
        BundleError: the bundle has no weights, or ``out`` is the bundle itself or in it.
        ClasskinfyError: ``out`` exists.
        DataError: photos to calibrate on cannot be taken, or the model is measured on them.
        RecipeError: a precision that is not offered or lacks photos, nothing to add, or an override
            of what a new export alone can change.
    """
    check_out(bundle, out, overwrite=overwrite)
    recipe = of_bundle.recipe(bundle, precisions, overrides)
    sources = of_bundle.sources(bundle)
    held = [precision for precision in recipe.precisions if rounded_by_photos(precision)]
    if bundle.manifest.calibration is not None and calibration is None:
        raise RecipeError(
            f"{bundle.path.name} holds {held[0]}, which is made anew, and from photos",
            hint="give --calibration, as when it was made",
        )
    made = export.export(
        sources,
        recipe,
        out,
        overwrite=overwrite,
        golden_photos=bundle,
        calibration=calibration,
        split=split,
        report=report,
    )
    return Quantised(made, tuple(name for name in bundle.evidence() if name not in made.evidence()))


def quantize_as_found(
    bundle: Bundle,
    out: Path,
    found: Search,
    *,
    calibration: Path,
    split: Path | None = None,
    overrides: tuple[str, ...] = (),
    overwrite: bool = False,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Quantised:
    """Write what a search has chosen, as ``quantize``.

    Args:
        bundle: that was searched.
        out: the new bundle's folder, or its ``.ckb`` archive.
        found: with a choice.
        calibration: photos or a data set that it was searched with.
        split: of these photos.
        overrides: that it was searched with.
        overwrite: replace what is at ``out``.
        report: told of each step.

    Raises:
        ClasskinfyError: as of ``quantize``.
    """
    assert found.choice is not None
    qat = found.choice.qat
    overrides += (f"qat={'null' if qat is None else qat.model_dump_json()}",)
    if calibrated(found.choice.precision):
        overrides += (f"float_blocks={json.dumps(found.choice.float_blocks)}",)
    by_photos = rounded_by_photos(found.choice.precision)
    return quantize(
        bundle,
        out,
        [found.choice.precision],
        calibration=calibration if by_photos else None,
        split=split if by_photos else None,
        overrides=overrides,
        overwrite=overwrite,
        report=report,
    )


def check_out(bundle: Bundle, out: Path, *, overwrite: bool) -> None:
    """Check that a new bundle can be written, before anything else is done.

    Raises:
        BundleError: ``out`` is the bundle that is read, or lies in it.
        ClasskinfyError: ``out`` exists.
    """
    if out.resolve() == bundle.path.resolve() or bundle.path.resolve() in out.resolve().parents:
        raise BundleError(
            f"{out} is the bundle that is read, or lies in it", hint="choose another --out"
        )
    if out.exists() and not overwrite:
        raise ClasskinfyError(
            f"{out} already exists", hint="choose another --out, or pass --overwrite"
        )
