"""What an existing bundle is made from, to make another of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from classkinfy_export import recipes
from classkinfy_export.bundle import card
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, RecipeError
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.precision import rounded_by_photos
from classkinfy_export.quantization.photos import Training
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.runtimes.pytorch import read_weights

_OTHERWISE = ("precisions", "calibration", "float_blocks", "qat")
"""What of a bundle's recipe may be otherwise in the new one."""


def recipe(bundle: Bundle, precisions: Sequence[str], overrides: tuple[str, ...]) -> ExportRecipe:
    """Return a bundle's recipe, with more precisions.

    Args:
        bundle: an opened bundle.
        precisions: to add, in this order, to those that it holds.
        overrides: ``key=value`` over the rest, of what may be otherwise.

    Raises:
        RecipeError: a precision that is not offered, nothing to add, or an override of what a new
            export alone can change.
    """
    name = bundle.path.name
    old = recipes.parse(bundle.manifest.provenance.recipe, ExportRecipe, f"the recipe of {name}")
    wanted = [*old.precisions, *(p for p in dict.fromkeys(precisions) if p not in old.precisions)]
    content = {**bundle.manifest.provenance.recipe, "precisions": wanted}
    new = recipes.parse(content, ExportRecipe, f"the recipe of {name}", overrides)
    for field in ExportRecipe.model_fields:
        if field not in _OTHERWISE and getattr(new, field) != getattr(old, field):
            raise RecipeError(
                f"{field} of a bundle cannot be changed by quantising it",
                hint=f"{', '.join(_OTHERWISE)} can; export the run again for anything else",
            )
    if new.precisions == old.precisions and not any(map(rounded_by_photos, new.precisions)):
        raise RecipeError(
            f"{name} holds {', '.join(old.precisions)} already",
            hint="name a --precision that it does not hold",
        )
    return new


def sources(bundle: Bundle) -> Sources:
    """Return a bundle's weights, and what it tells of their training.

    Raises:
        BundleError: it has no weights.
    """
    if not any(model.format == "pytorch" for model in bundle.manifest.models):
        raise BundleError(
            f"{bundle.path.name} holds no PyTorch weights to quantise",
            hint="export the run again, with pytorch among the recipe's formats",
        )
    weights = read_weights(bundle)
    return Sources(
        weights.classifier,
        weights.graders,
        weights.screen,
        _metrics(bundle),
        Training(bundle.manifest.provenance.data),
        bundle.manifest.provenance.training_recipe_sha256,
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
