"""Checkpoints and a recipe to a bundle."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
)
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.errors import CheckpointError, ClasskinfyError, RecipeError
from classkinfy_export.frame import Pixels, choose, list_images
from classkinfy_export.parity import golden
from classkinfy_export.precision import calibrated
from classkinfy_export.quantization.calibration import CalibrationSet
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
    return Sources(classifier, graders, checkpoint.load(screen), metrics)


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
    beside = classifier.with_name(run_folder.SCREEN)
    if screen is None and first.info.pooling is not None and beside.is_file():
        screen = beside
    return Sources(first, second, None if screen is None else checkpoint.load(screen))


def export(
    sources: Sources,
    recipe: ExportRecipe,
    out: Path,
    *,
    overwrite: bool = False,
    golden_folder: Path | None = None,
    calibration: Sequence[Path] = (),
    report: Report = lambda what, done, total: None,
) -> Bundle:
    """Write a bundle, whole or not at all.

    Args:
        sources: checkpoints.
        recipe: formats, forms, rules, capture size.
        out: the bundle's folder, or its ``.ckb`` archive.
        overwrite: replace what is at ``out``.
        golden_folder: the user's own photos, to become golden vectors too.
        calibration: photos that ranges of quantised models are taken from; of them as many, evenly
            spaced, as the recipe says. They must share no lesion with those that are measured on.
        report: told of each step.

    Returns:
        the bundle, opened and checked.

    Raises:
        CheckpointError: the checkpoints do not fit together.
        ExportError: a format cannot hold what the recipe asks.
        ClasskinfyError: ``out`` exists.
        RecipeError: a precision that is calibrated, and no photos to calibrate on.
    """
    _agree(sources, recipe)
    quantised = [precision for precision in recipe.precisions if calibrated(precision)]
    if calibration and not quantised:
        raise RecipeError(
            "photos to calibrate on were given, and no precision of the recipe takes any",
            hint="add --set 'precisions=[fp32, static_wi8_ai8]'",
        )
    if quantised and not calibration:
        raise RecipeError(
            f"{quantised[0]} takes its ranges from photos, and none were given",
            hint="give some hundred photos like those to come with --calibration, never noise; "
            "'classkinfy data synthesise' draws some to try it with; or leave precisions at [fp32]",
        )
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
    if golden_folder is not None:
        list_images(golden_folder)  # told now, not after minutes of converting
    converters = [formats.get(name) for name in recipe.formats]
    total = sum(c.steps(assembly, recipe) for c in converters) + int(recipe.golden) + 1
    seen = None
    if quantised:
        chosen = choose(calibration, recipe.calibration.images)
        seen = CalibrationSet(
            chosen, assembly, recipe, lambda done, of: report("calibration photos", done, of)
        )
    if out.suffix == writer.ARCHIVE_SUFFIX:
        if out.exists() and not overwrite:
            raise ClasskinfyError(
                f"{out} already exists", hint="choose another --out, or pass --overwrite"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary)
            _fill(folder, assembly, recipe, sources, converters, seen, golden_folder, report, total)
            writer.pack(folder, out)
    else:
        _check_replaceable(out, overwrite)
        with files.new_folder(out, overwrite=overwrite) as folder:
            _fill(folder, assembly, recipe, sources, converters, seen, golden_folder, report, total)
    bundle = Bundle.open(out)
    if sources.metrics is not None:
        writer.add_evidence(bundle, "accuracy", sources.metrics)
    return Bundle.open(out)


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
    calibration: CalibrationSet | None,
    golden_folder: Path | None,
    report: Report,
    total: int,
) -> None:
    done = 0

    def step(what: str) -> None:
        nonlocal done
        report(what, done, total)
        done += 1

    models = []
    for converter in converters:
        models.extend(converter.export(assembly, recipe, calibration, folder, step))
    if recipe.golden:
        step("golden vectors")
        golden.write(
            folder,
            golden.images(recipe.capture, recipe.fit, golden_folder),
            recipe.capture.layout,
            _reference(assembly),
        )
    step("manifest")
    draft = _manifest(folder, assembly, recipe, sources, models, calibration)
    (folder / "MODEL_CARD.md").write_text(model_card(draft, sources.metrics), encoding="utf-8")
    manifest = draft.model_copy(update={"files": writer.pin(folder)})
    writer.seal(folder, manifest)
    report("done", total, total)


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
    calibration: CalibrationSet | None,
) -> Manifest:
    data = sources.metrics["data"] if sources.metrics else {}
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
        calibration=None
        if calibration is None
        else Calibration(images=len(calibration), sha256=calibration.sha256),
        parity=recipe.parity,
        weights_licence=recipe.weights_licence or sources.classifier.info.weights_licence,
        provenance=Provenance(
            toolkit=__version__,
            recipe=recipe.model_dump(mode="json", exclude_none=True),
            checkpoints={stage: c.sha256 for stage, c in assembly.checkpoints.items()},
            data={k: str(v) for k, v in data.items()},
            versions=_versions(),
        ),
        files=writer.pin(folder),
    )


def _versions() -> dict[str, str]:
    found = {}
    for tool in _TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
