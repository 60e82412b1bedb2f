"""Checkpoints and a recipe to a bundle."""

from __future__ import annotations

import importlib.metadata
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from classkinfy_export import __version__, files, formats
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.card import model_card
from classkinfy_export.bundle.manifest import (
    MANIFEST,
    PIPELINE,
    SBOM,
    Calibration,
    Manifest,
    ModelFile,
    Provenance,
    Stability,
    Trained,
)
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import SCREEN_FEATURES
from classkinfy_export.errors import CheckpointError, ClasskinfyError
from classkinfy_export.frame import Pixels, frame, list_images
from classkinfy_export.jobs import decisions, sbom
from classkinfy_export.jobs.sources import Sources
from classkinfy_export.parity import golden
from classkinfy_export.quantization import preparation
from classkinfy_export.quantization.calibration import CalibrationSet
from classkinfy_export.quantization.photos import Photos
from classkinfy_export.quantization.preparation import Prepared
from classkinfy_export.quantization.ranges import SHIFT_LIMIT
from classkinfy_export.recipes import ExportRecipe
from classkinfy_export.stages.assembly import Assembly, trace

Report = Callable[[str, int, int], None]

_TOOLS = (
    *("torch", "timm", "onnx", "onnxscript", "onnxruntime", "litert-torch", "ai-edge-quantizer"),
    *("ai-edge-litert", "flatbuffers", "onnx-ir", "safetensors", "numpy", "scipy", "pillow"),
    "cyclonedx-python-lib",
)
"""What has a say in a bundle's bytes."""


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
        RecipeError: a precision without the photos that it needs, or blocks that a network lacks.
    """
    recipe = sources.settled(recipe)
    photos = sources.photos(recipe, calibration, split)
    judging = None
    if calibration is not None and photos is not None:
        judging = sources.others(recipe.calibration.images, photos, calibration, split)
        for photo in judging.paths:
            frame(photo, recipe.capture, recipe.fit)  # a broken one is told now, too
    assembly = sources.assemble(recipe)
    if isinstance(golden_photos, Path):
        list_images(golden_photos)  # told now, not after minutes of converting
    with _new(out, overwrite=overwrite) as folder:
        _fill(folder, assembly, recipe, sources, photos, judging, golden_photos, report)
    bundle = Bundle.open(out)
    if sources.metrics is not None:
        writer.add_evidence(bundle, "accuracy", sources.metrics)
    return Bundle.open(out)


@contextmanager
def _new(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to fill, which becomes the bundle at the end: whole, or not at all."""
    if out.suffix == writer.ARCHIVE_SUFFIX:
        if out.exists() and not overwrite:
            raise ClasskinfyError(
                f"{out} already exists", hint="choose another --out, or pass --overwrite"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            files.named(out),
            tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary,
        ):
            yield Path(temporary)
            writer.pack(Path(temporary), out)
        return
    if overwrite and out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ClasskinfyError(
            f"{out} is not a bundle, and is not overwritten", hint="choose another --out"
        )
    with files.new_folder(out, overwrite=overwrite) as folder:
        yield folder


def _fill(
    folder: Path,
    assembly: Assembly,
    recipe: ExportRecipe,
    sources: Sources,
    photos: Photos | None,
    judging: Photos | None,
    golden_photos: Path | Bundle | None,
    report: Report,
) -> None:
    converters = [formats.get(name) for name in recipe.formats]
    total = sum(c.steps(assembly, recipe) for c in converters) + int(recipe.golden) + 1
    prepared = None if photos is None else prepare(photos, assembly, recipe, report)
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
    if judging is not None and judging.paths:
        writer.seal(folder, draft)  # so that runtimes open it
        again = partial(report, "decisions of quantised files")
        decided = decisions.measure(Bundle.open(folder), judging.paths, again)
        draft = draft.model_copy(update={"decisions": decided})
    (folder / "MODEL_CARD.md").write_text(model_card(draft, sources.metrics), encoding="utf-8")
    (folder / SBOM).write_bytes(sbom.bill_of_materials(draft))
    manifest = draft.model_copy(update={"files": writer.pin(folder)})
    writer.seal(folder, manifest)
    report("done", total, total)


def prepare(photos: Photos, assembly: Assembly, recipe: ExportRecipe, report: Report) -> Prepared:
    """Make an assembly's networks ready for int8, by photos to calibrate on."""
    calibration = CalibrationSet(photos, assembly, recipe, partial(report, "calibration photos"))
    return preparation.prepare(assembly, calibration, recipe.qat, report)


def _reference(assembly: Assembly) -> Callable[[Pixels], dict[str, Any]]:
    def run_all(image: Pixels) -> dict[str, Any]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # how sums are parted among threads shows in their last bits
        try:
            tensors = trace(assembly, torch.from_numpy(image))
        finally:
            torch.set_num_threads(threads)
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
        calibration=None if prepared is None else _calibration(prepared),
        parity=recipe.parity,
        weights_licence=recipe.weights_licence or sources.classifier.info.weights_licence,
        provenance=Provenance(
            toolkit=__version__,
            recipe=recipe.model_dump(mode="json", exclude_none=True),
            checkpoints={stage: c.sha256 for stage, c in assembly.checkpoints.items()},
            data=dict(sources.training.data),
            training_recipe_sha256=sources.recipe_sha256,
            versions=_versions(),
        ),
        files=writer.pin(folder),
    )


def _calibration(prepared: Prepared) -> Calibration:
    seen, stability = prepared.calibration, None
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
        trained=tuple(
            Trained(
                stage=stage,
                before=noise.before,
                after=noise.after if math.isfinite(noise.after) else None,
            )
            for stage, noise in prepared.noises.items()
        ),
    )


def _versions() -> dict[str, str]:
    found = {}
    for tool in _TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
