"""A bundle whose stages are arithmetic on one pixel, so that Kotlin's tests can be its engine.

``TinyEngine.kt`` computes the same. Every number is a few powers of two, exact in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from classkinfy_export import contract
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import PIPELINE, Calibration, Manifest, ModelFile, Provenance
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import (
    SCREEN_FEATURES,
    SCREEN_SCALE,
    Capture,
    NetworkSpec,
    QualityRule,
    StageSpec,
    WorkingSize,
)
from classkinfy_export.parity import golden
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Array, Engine
from classkinfy_export.runtimes.session import Session
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe

CAPTURE, SIZE = Capture(height=48, width=64), WorkingSize(height=48, width=64)
TAXONOMY = Taxonomy()
GRADED = ("mel", "nv")
WIDTH = 4
RULES = (
    QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse"),
    QualityRule(measure="sharpness", reason="blurred", below=8.1, effect="advise"),
    QualityRule(measure="bright_share", reason="overexposed", above=0.7, effect="refuse"),
)
PIXELS = {
    "graded": (4, 10, 70),
    "other_grader": (12, 0, 200),
    "not_graded": (3, 38, 5),
    "refused": (4, 39, 70),
}
"""The one colour of each golden image: melanoma, naevus, dermatofibroma, too much hair."""


class TinyModel(Engine):
    """The bundle's engine in Python, and the reference of its golden vectors."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "onnx", "fp32", threads=1)

    def opened(self) -> list[str]:
        """Return nothing: no file is needed."""
        return []

    def close(self) -> None:
        """Free nothing."""

    def _load(self, model: ModelFile, stage: str) -> None:
        pass

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        return _outputs(spec.name, inputs)


def _outputs(stage: str, inputs: dict[str, Array]) -> dict[str, Array]:
    """Compute a stage of what earlier ones gave. Heads on the trunk are given no pixels."""
    if "embedding" in inputs:
        levels = inputs["embedding"][0, :3] * 256
    else:
        levels = inputs["image" if stage == "prepare" else "clean"][0, 0, 0]
    red, green, blue = (int(level) for level in levels)
    classes = len(TAXONOMY.classes)
    if stage == "prepare":
        measures = [green / 256, blue / 4, 0.25, 0.25]
        return {"clean": inputs["image"], "quality": np.array([measures], np.float32)}
    if stage == "screen":
        mask = np.zeros((1, SIZE.height // SCREEN_SCALE, SIZE.width // SCREEN_SCALE), np.uint8)
        mask[0, 0, 0] = red % 2
        features = np.zeros((1, len(SCREEN_FEATURES)), np.float32)
        features[0, 0] = red / 256
        preliminary = _likeliest(red + 1, classes, 0.125)
        return {"preliminary": preliminary, "lesion_mask": mask, "features": features}
    if stage == "classify":
        embedding = np.array([[red / 256, green / 256, blue / 256, 1.0]], np.float32)
        return {"probabilities": _likeliest(red, classes, 0.125), "embedding": embedding}
    return {"severity": _likeliest(blue, len(TAXONOMY.severities), 0.25)}


def write(folder: Path) -> Bundle:
    """Write the bundle, with golden vectors."""
    stages = (
        contract.prepare_spec(CAPTURE, SIZE),
        contract.screen_spec(SIZE, TAXONOMY),
        contract.classify_spec(SIZE, TAXONOMY, WIDTH, asks_screen=True),
        *(contract.grade_spec(SIZE, TAXONOMY, dx, WIDTH) for dx in GRADED),
    )
    names = [*(stage.name for stage in stages), PIPELINE]
    models = _models(folder, names)
    pipeline = contract.pipeline_spec(CAPTURE, SIZE, TAXONOMY, screened=True)
    network = NetworkSpec(architecture="tf_efficientnet_lite0", input_size=64, outputs=7)

    def seal() -> Bundle:
        manifest = Manifest(
            name="tiny",
            taxonomy=TAXONOMY,
            capture=CAPTURE,
            working_size=SIZE,
            fit="crop",
            hair_removal=True,
            screen_features=SCREEN_FEATURES,
            quality_rules=RULES,
            grader_variant="trunk",
            stages=stages,
            pipeline=pipeline,
            networks={"classify": network},
            models=models,
            calibration=Calibration(images=1, sha256="0" * 64),
            parity=ParityRecipe(),
            weights_licence="CC BY-NC 4.0",
            provenance=Provenance(toolkit="0.0", recipe={}, checkpoints={"classify": "f" * 64}),
            files=writer.pin(folder),
        )
        writer.seal(folder, manifest)
        return Bundle.open(folder)

    session = Session(TinyModel(seal()))
    shape = (1, CAPTURE.height, CAPTURE.width, 3)
    images = ((n, np.broadcast_to(np.array(p, np.uint8), shape).copy()) for n, p in PIXELS.items())
    golden.write(folder, images, "rgb", lambda image: session.run(image, also_grade=GRADED))
    return seal()


def _models(folder: Path, names: list[str]) -> tuple[ModelFile, ...]:
    """Files that say what they are; entries are named otherwise than stages."""
    ranges = "models/ranges.json"
    (folder / "models").mkdir(parents=True)
    (folder / ranges).write_text("{}")
    models = []
    precisions: tuple[Precision, ...] = ("fp32", "static_wi8_ai8")
    for precision in precisions:
        for name in names:
            path = f"models/{name}_{precision}.onnx"
            (folder / path).write_bytes(f"onnx {precision} {name}".encode())
            model = ModelFile(
                path=path,
                format="onnx",
                precision=precision,
                entries={name: f"serve_{name}"},
                ranges=None if precision == "fp32" else ranges,
            )
            models.append(model)
    path = "models/all.tflite"
    (folder / path).write_bytes(b"litert fp32 all")
    entries = {name: f"serve_{name}" for name in names}
    models.append(ModelFile(path=path, format="litert", precision="fp32", entries=entries))
    return tuple(models)


def _likeliest(index: int, size: int, rest: float) -> Array:
    values = np.full((1, size), rest, np.float32)
    values[0, index % size] = 1 - rest * (size - 1)
    return values
