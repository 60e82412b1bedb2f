"""Checkpoints and a recipe to a bundle."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from classkinfy_export import __version__, files, formats
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.card import model_card
from classkinfy_export.bundle.manifest import (
    MANIFEST,
    PIPELINE,
    Calibration,
    Manifest,
    ModelFile,
    Provenance,
    Stability,
)
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.errors import CheckpointError, ClasskinfyError, RecipeError
from classkinfy_export.frame import Pixels, list_images
from classkinfy_export.parity import golden
from classkinfy_export.precision import calibrated, rounded_by_photos
from classkinfy_export.quantization import preparation
from classkinfy_export.quantization.calibration import CalibrationSet
from classkinfy_export.quantization.photos import Photos, Training, choose
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.quantization.ranges import SHIFT_LIMIT
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages import checkpoint, origin
from classkinfy_export.stages.assembly import Assembly, assemble, trace
from classkinfy_export.stages.checkpoint import Checkpoint
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.training import folder as run_folder

Report = Callable[[str, int, int], None]

_TOOLS = (
    *("torch", "timm", "onnx", "onnxscript", "onnxruntime", "litert-torch", "ai-edge-quantizer"),
)


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


def from_run(folder: Path) -> Sources:
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
    return Sources(classifier, graders, checkpoint.load(screen), metrics, training)


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


def from_files(
    classifier: Path,
    graders: Mapping[str, Path],
    recipe: ExportRecipe,
    screen: Path | None = None,
) -> Sources:
    """Read single checkpoints: this toolkit's ``.safetensors``, or the origin project's ``.pth``.

    The profiles of ``screen`` are this toolkit's alone. Where none are named, and the classifier
    asks a screen, ``screen.safetensors`` is taken from beside it, as a run's folder has it.

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
    return Sources(first, second, profiles, training=training)


def export(
    sources: Sources,
    recipe: ExportRecipe,
    out: Path,
    *,
    overwrite: bool = False,
    golden_photos: Path | Bundle | None = None,
    calibration: Path | None = None,
    split: Path | None = None,
    report: Report = lambda what, done, total: None,
) -> Bundle:
    """Write a bundle, whole or not at all.

    Args:
        sources: checkpoints.
        recipe: formats, forms, rules, capture size.
        out: the bundle's folder, or its ``.ckb`` archive.
        overwrite: replace what is at ``out``.
        golden_photos: the user's own, to become golden vectors too: a folder, or a bundle of the
            same capture that has them.
        calibration: what ranges of quantised models are taken from: a folder of photos or a data
            set, as of ``quantization.photos.choose``.
        split: of these photos; a run's own by default.
        report: told of each step.

    Returns:
        the bundle, opened and checked.

    Raises:
        CheckpointError: the checkpoints do not fit together.
        ExportError: a format cannot hold what the recipe asks.
        ClasskinfyError: ``out`` exists.
        DataError: photos to calibrate on cannot be taken, or the model is measured on them.
        RecipeError: a precision without the photos that it needs.
    """
    _agree(sources, recipe)
    photos = _photos(sources, recipe, calibration, split)
    known = sources.classifier.info.hair_removal
    if recipe.hair_removal is None:
        recipe = recipe.model_copy(update={"hair_removal": known is None or known})
    assembly = assemble(
        sources.classifier,
        sources.graders,
        screen=sources.screen,
        capture=recipe.capture,
        working_size=recipe.working_size,
        hair_removal=recipe.hair_removal is not False,
        rules=recipe.quality_rules,
        pipeline_outputs=recipe.pipeline_outputs,
    )
    if isinstance(golden_photos, Path):
        list_images(golden_photos)  # told now, not after minutes of converting
    converters = [formats.get(name) for name in recipe.formats]
    total = sum(c.steps(assembly, recipe) for c in converters) + int(recipe.golden) + 1
    if out.suffix == writer.ARCHIVE_SUFFIX:
        if out.exists() and not overwrite:
            raise ClasskinfyError(
                f"{out} already exists", hint="choose another --out, or pass --overwrite"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary)
            _fill(
                folder, assembly, recipe, sources, converters, photos, golden_photos, report, total
            )
            writer.pack(folder, out)
    else:
        _check_replaceable(out, overwrite)
        with files.new_folder(out, overwrite=overwrite) as folder:
            _fill(
                folder, assembly, recipe, sources, converters, photos, golden_photos, report, total
            )
    bundle = Bundle.open(out)
    if sources.metrics is not None:
        writer.add_evidence(bundle, "accuracy", sources.metrics)
    return Bundle.open(out)


def _photos(
    sources: Sources, recipe: ExportRecipe, calibration: Path | None, split: Path | None
) -> Photos | None:
    """Choose the photos to calibrate on; None where no precision takes any."""
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
            "noise; 'classkinfy data synthesise' draws some to try it with; or leave precisions at "
            "[fp32], or take fp16 or weight_only_wi8_afp32, which need none",
        )
    return choose(
        calibration,
        recipe.calibration,
        sources.classifier.info.taxonomy,
        training=sources.training,
        split=split,
    )


def _check_replaceable(out: Path, overwrite: bool) -> None:
    if overwrite and out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ClasskinfyError(
            f"{out} is not a bundle, and is not overwritten", hint="choose another --out"
        )


def _agree(sources: Sources, recipe: ExportRecipe) -> None:
    """Refuse a recipe that contradicts what the checkpoints say of themselves."""
    info = sources.classifier.info
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


def _fill(
    folder: Path,
    assembly: Assembly,
    recipe: ExportRecipe,
    sources: Sources,
    converters: list[formats.Format],
    photos: Photos | None,
    golden_photos: Path | Bundle | None,
    report: Report,
    total: int,
) -> None:
    prepared = None if photos is None else _prepared(photos, assembly, recipe, report)
    done = 0

    def step(what: str) -> None:
        nonlocal done
        report(what, done, total)
        done += 1

    models = []
    for converter in converters:
        models.extend(converter.export(assembly, recipe, prepared, folder, step))
    if recipe.golden:
        step("golden vectors")
        golden.write(
            folder,
            golden.images(recipe.capture, recipe.fit, golden_photos),
            recipe.capture.layout,
            _reference(assembly),
        )
    step("manifest")
    draft = _manifest(folder, assembly, recipe, sources, models, prepared)
    (folder / "MODEL_CARD.md").write_text(model_card(draft, sources.metrics), encoding="utf-8")
    manifest = draft.model_copy(update={"files": writer.pin(folder)})
    writer.seal(folder, manifest)
    report("done", total, total)


def _prepared(photos: Photos, assembly: Assembly, recipe: ExportRecipe, report: Report) -> Prepared:
    calibration = CalibrationSet(
        photos, assembly, recipe, lambda done, of: report("calibration photos", done, of)
    )
    networks = assembly.networks()
    return preparation.prepare(
        assembly,
        calibration,
        lambda done: report(f"weights of {networks[done]}", done, len(networks)),
    )


def _reference(assembly: Assembly) -> Callable[[Pixels], dict[str, Any]]:
    def run_all(image: Pixels) -> dict[str, Any]:
        tensors = trace(assembly, torch.from_numpy(image))
        for name, tensor in tensors.items():
            # Finite weights can still overflow, or divide by a negative variance.
            if name != "severity" and not bool(torch.isfinite(tensor.to(torch.float32)).all()):
                raise CheckpointError(
                    f"the networks give NaN or infinite {name}",
                    hint="the training diverged; export an earlier checkpoint",
                )
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    return run_all


def _manifest(
    folder: Path,
    assembly: Assembly,
    recipe: ExportRecipe,
    sources: Sources,
    models: list[ModelFile],
    prepared: Prepared | None,
) -> Manifest:
    return Manifest(
        name=recipe.name,
        taxonomy=assembly.taxonomy,
        capture=recipe.capture,
        working_size=assembly.working_size,
        fit=recipe.fit,
        hair_removal=recipe.hair_removal is not False,
        screen_features=dict(SCREEN_FEATURES) if "screen" in assembly.specs else None,
        quality_rules=recipe.quality_rules,
        grader_variant=assembly.variant,
        stages=tuple(assembly.specs.values()),
        pipeline=assembly.pipeline_spec if any(PIPELINE in m.entries for m in models) else None,
        networks={
            stage: c.info.network
            for stage, c in assembly.checkpoints.items()
            if c.info.network is not None
        },
        models=tuple(models),
        calibration=None if prepared is None else _calibration(prepared.calibration),
        parity=recipe.parity,
        weights_licence=recipe.weights_licence or sources.classifier.info.weights_licence,
        provenance=Provenance(
            toolkit=__version__,
            recipe=recipe.model_dump(mode="json", exclude_none=True),
            checkpoints={stage: c.sha256 for stage, c in assembly.checkpoints.items()},
            data=dict(sources.training.data),
            versions=_versions(),
        ),
        files=writer.pin(folder),
    )


def _calibration(seen: CalibrationSet) -> Calibration:
    stability = None
    if seen.shifts:
        worst = max(seen.shifts, key=seen.shifts.__getitem__)
        stability = Stability(
            activations=len(seen.shifts),
            moved=sum(shift > SHIFT_LIMIT for shift in seen.shifts.values()),
            worst=worst,
            shift=seen.shifts[worst],
        )
    return Calibration(
        images=len(seen),
        sha256=seen.sha256,
        seed=seen.photos.seed,
        classes=seen.photos.classes,
        split_sha256=seen.photos.split_sha256,
        stability=stability,
    )


def _versions() -> dict[str, str]:
    found = {}
    for tool in _TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
