"""More precisions for a bundle: its own weights and recipe, exported again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from classkinfy_export import recipes
from classkinfy_export.bundle import card
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, RecipeError
from classkinfy_export.jobs import export
from classkinfy_export.jobs.export import Sources
from classkinfy_export.precision import rounded_by_photos
from classkinfy_export.quantization.photos import Training
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.pytorch import read_weights

_OTHERWISE = ("precisions", "calibration")
"""What of a bundle's recipe may be otherwise in the new one."""


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
        overrides: ``calibration.images=500`` over the bundle's recipe.
        overwrite: replace what is at ``out``.
        report: told of each step.

    Raises:
        BundleError: the bundle has no weights, or ``out`` is the bundle itself or in it.
        ClasskinfyError: ``out`` exists.
        DataError: photos to calibrate on cannot be taken, or the model is measured on them.
        RecipeError: a precision that is not offered or lacks photos, nothing to add, or an override
            of what a new export alone can change.
    """
    if out.resolve() == bundle.path.resolve() or bundle.path.resolve() in out.resolve().parents:
        raise BundleError(
            f"{out} is the bundle that is read, or lies in it", hint="choose another --out"
        )
    recipe = _recipe(bundle, precisions, overrides)
    if not any(model.format == "pytorch" for model in bundle.manifest.models):
        raise BundleError(
            f"{bundle.path.name} holds no PyTorch weights to quantise",
            hint="export the run again, with pytorch among the recipe's formats",
        )
    held = [precision for precision in recipe.precisions if rounded_by_photos(precision)]
    if bundle.manifest.calibration is not None and calibration is None:
        raise RecipeError(
            f"{bundle.path.name} holds {held[0]}, which is made anew, and from photos",
            hint="give --calibration, as when it was made",
        )
    sources = _sources(bundle)
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


def _recipe(bundle: Bundle, precisions: Sequence[str], overrides: tuple[str, ...]) -> ExportRecipe:
    name = bundle.path.name
    old = recipes.parse(bundle.manifest.provenance.recipe, ExportRecipe, f"the recipe of {name}")
    wanted = [*old.precisions, *(p for p in dict.fromkeys(precisions) if p not in old.precisions)]
    content = {**bundle.manifest.provenance.recipe, "precisions": wanted}
    new = recipes.parse(content, ExportRecipe, f"the recipe of {name}", overrides)
    for field in ExportRecipe.model_fields:
        if field not in _OTHERWISE and getattr(new, field) != getattr(old, field):
            raise RecipeError(
                f"{field} of a bundle cannot be changed by quantising it",
                hint=f"{' and '.join(_OTHERWISE)} can; export the run again for anything else",
            )
    if new.precisions == old.precisions and not any(map(rounded_by_photos, new.precisions)):
        raise RecipeError(
            f"{name} holds {', '.join(old.precisions)} already",
            hint="name a --precision that it does not hold",
        )
    return new


def _sources(bundle: Bundle) -> Sources:
    weights = read_weights(bundle)
    return Sources(
        weights.classifier,
        weights.graders,
        weights.screen,
        _metrics(bundle),
        Training(bundle.manifest.provenance.data),
    )


def _metrics(bundle: Bundle) -> dict[str, Any] | None:
    """Return the run's figures, if they are those on the card. Nothing pins evidence itself."""
    found = bundle.evidence().get("accuracy")
    if found is None:
        return None
    metrics = {key: value for key, value in found.items() if key != "manifest_sha256"}
    try:
        told = "\n".join(card.measured(metrics))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # not as a run writes it
    return metrics if told in bundle.read("MODEL_CARD.md").decode() else None
