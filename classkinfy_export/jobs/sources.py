"""What a bundle is made from: checkpoints, and what is known of their training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from classkinfy_export.errors import CheckpointError, RecipeError
from classkinfy_export.precision import calibrated, rounded_by_photos
from classkinfy_export.quantization import blocks
from classkinfy_export.quantization.photos import Photos, Training, choose, others
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages import checkpoint, origin
from classkinfy_export.stages.assembly import Assembly, assemble
from classkinfy_export.stages.checkpoint import Checkpoint
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.training import folder as run_folder


@dataclass(frozen=True)
class Sources:
    """What a bundle is made from."""

    classifier: Checkpoint
    graders: Mapping[str, Checkpoint]
    screen: Checkpoint | None = None
    metrics: dict[str, Any] | None = None
    """The training run's figures."""
    training: Training = field(default_factory=Training)
    """What is known of the data that they are of."""
    recipe_sha256: str | None = None
    """Of the training run's recipe, as it lies in the run's folder."""

    @classmethod
    def from_run(cls, folder: Path) -> Self:
        """Read a finished training run.

        Raises:
            CheckpointError: not a run, unfinished, or without one of its graders.
        """
        if not (folder / run_folder.METRICS).is_file():
            raise CheckpointError(
                f"{folder} is not a finished training run: it has no {run_folder.METRICS}",
                hint="run 'classkinfy train' with this --out to start or finish it",
            )
        metrics = _metrics(folder / run_folder.METRICS)
        classifier = checkpoint.load(folder / run_folder.CLASSIFIER)
        graders = {}
        for dx in metrics["graders"]:
            path = folder / run_folder.grader(dx)
            if not path.is_file():
                raise CheckpointError(
                    f"the run {folder} lacks the grader of {dx!r} ({path.name})",
                    hint="run 'classkinfy train' with this --out again to make it",
                )
            graders[dx] = checkpoint.load(path)
        screen = folder / run_folder.SCREEN
        if not screen.is_file():
            raise CheckpointError(
                f"the run {folder} lacks {screen.name}",
                hint="run 'classkinfy train' with this --out again to make it",
            )
        data = {key: str(value) for key, value in metrics["data"].items()}
        training = Training(data, _beside(folder / run_folder.SPLIT))
        recipe = _beside(folder / run_folder.RECIPE)
        digest = None if recipe is None else hashlib.sha256(recipe.read_bytes()).hexdigest()
        return cls(classifier, graders, checkpoint.load(screen), metrics, training, digest)

    @classmethod
    def from_files(
        cls,
        classifier: Path,
        graders: Mapping[str, Path],
        recipe: ExportRecipe,
        screen: Path | None = None,
    ) -> Self:
        """Read single checkpoints: this toolkit's ``.safetensors``, or the origin's ``.pth``.

        The profiles of ``screen`` are this toolkit's alone. Where none are named, and the
        classifier asks a screen, ``screen.safetensors`` is taken from beside it, as a run's folder
        has it.

        Raises:
            CheckpointError: unreadable, unsafe, or not what it is given as.
        """
        taxonomy = recipe.taxonomy or Taxonomy()
        licence = recipe.weights_licence or "unknown"
        first = (
            checkpoint.load(classifier)
            if classifier.suffix == checkpoint.SUFFIX
            else origin.load_classifier(classifier, taxonomy, licence)
        )
        second = {}
        for dx, path in graders.items():
            if dx not in first.info.taxonomy.classes:
                raise CheckpointError(
                    f"--grader {dx}={path}: {dx!r} is not a class",
                    hint=f"classes: {', '.join(first.info.taxonomy.classes)}",
                )
            second[dx] = (
                checkpoint.load(path)
                if path.suffix == checkpoint.SUFFIX
                else origin.load_grader(path, dx, first.info.taxonomy, licence)
            )
        if screen is None and first.info.pooling is not None:
            screen = _beside(classifier.with_name(run_folder.SCREEN))
        profiles = None if screen is None else checkpoint.load(screen)
        training = Training(split=_beside(classifier.with_name(run_folder.SPLIT)))
        return cls(first, second, profiles, training=training)

    def settled(self, recipe: ExportRecipe) -> ExportRecipe:
        """Return a recipe that says whether hair is removed, as in training where it does not.

        Raises:
            RecipeError: it contradicts what the checkpoints say of themselves.
        """
        info = self.classifier.info
        for key, asked, known in (
            ("taxonomy", recipe.taxonomy, info.taxonomy),
            ("weights_licence", recipe.weights_licence, info.weights_licence),
            ("working_size", recipe.working_size, info.working_size),
            ("hair_removal", recipe.hair_removal, info.hair_removal),
        ):
            if asked is not None and known not in (None, "unknown", asked):
                raise RecipeError(
                    f"the recipe's {key} is {asked}, the checkpoint was trained with {known}",
                    hint=f"export with --set {key}=… as it was trained, or train with the recipe's",
                )
        known = info.hair_removal
        if recipe.hair_removal is None:
            return recipe.model_copy(update={"hair_removal": known is None or known})
        return recipe

    def assemble(self, recipe: ExportRecipe) -> Assembly:
        """Put the checkpoints together into the stages that a recipe, settled, tells of.

        Raises:
            CheckpointError: they do not fit together.
            RecipeError: a network lacks what the recipe leaves in float.
        """
        assembly = assemble(
            self.classifier,
            self.graders,
            screen=self.screen,
            capture=recipe.capture,
            working_size=recipe.working_size,
            hair_removal=recipe.hair_removal is not False,
            rules=recipe.quality_rules,
            pipeline_outputs=recipe.pipeline_outputs,
        )
        blocks.check({stage: assembly.network(stage) for stage in assembly.networks()}, recipe)
        return assembly

    def photos(
        self, recipe: ExportRecipe, calibration: Path | None, split: Path | None
    ) -> Photos | None:
        """Choose the photos to calibrate on; None where no precision takes any.

        Args:
            recipe: its precisions, how many photos, the seed.
            calibration: a folder of photos or a data set, as of ``quantization.photos.choose``.
            split: of these photos; a run's own by default.

        Raises:
            DataError: photos cannot be taken, or the model is measured on them.
            RecipeError: a precision without the photos that it needs, or photos that none takes.
        """
        needing = [precision for precision in recipe.precisions if calibrated(precision)]
        taking = [precision for precision in recipe.precisions if rounded_by_photos(precision)]
        if calibration is None and split is not None:
            raise RecipeError("--split tells which photos to calibrate on, and needs --calibration")
        if calibration is not None and not taking:
            raise RecipeError(
                "photos to calibrate on were given, and no precision of the recipe takes any",
                hint="add --set 'precisions=[fp32, static_wi8_ai8]'",
            )
        if calibration is None and not needing:
            return None
        if calibration is None:
            raise RecipeError(
                f"{needing[0]} takes its ranges from photos, and none were given",
                hint="give --calibration: a data set such as HAM10000, of which as many of each "
                "diagnosis are taken, or a folder of some hundred photos like those to come, never "
                "noise; 'classkinfy data synthesise' draws some to try it with; or leave "
                "precisions at [fp32], or take fp16 or weight_only_wi8_afp32, which need none",
            )
        return choose(
            calibration,
            recipe.calibration,
            self.classifier.info.taxonomy,
            training=self.training,
            split=split,
        )

    def others(self, images: int, chosen: Photos, calibration: Path, split: Path | None) -> Photos:
        """Choose other photos than those to calibrate on, to judge by: ``images``, or what is left.

        Args:
            images: at most so many.
            chosen: to calibrate on.
            calibration: what they were chosen of.
            split: as ``photos`` was given it.
        """
        taxonomy = self.classifier.info.taxonomy
        return others(calibration, chosen, images, taxonomy, training=self.training, split=split)


def _metrics(path: Path) -> dict[str, Any]:
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        measured = {"data", "classifier", "graders"} <= metrics.keys()
    except (AttributeError, OSError, ValueError, RecursionError):
        measured = False
    if not measured:
        raise CheckpointError(
            f"{path} is damaged, or was not written by 'classkinfy train'",
            hint="delete it and run 'classkinfy train' with this --out again",
        )
    return metrics


def _beside(path: Path) -> Path | None:
    return path if path.is_file() else None
