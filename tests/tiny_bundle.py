"""A bundle that opens at once: its model files are bytes of no meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from classkinfy_export import contract
from classkinfy_export.bundle import writer
from classkinfy_export.bundle.manifest import Manifest, ModelFile, Provenance
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import Capture, NetworkSpec, QualityRule, WorkingSize
from classkinfy_export.parity import golden
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe

CAPTURE, SIZE = Capture(height=24, width=32), WorkingSize(height=24, width=32)
TAXONOMY = Taxonomy()


def make_bundle(
    folder: Path,
    evidence: dict[str, dict[str, Any]] | None = None,
    name: str = "tiny",
    golden_names: tuple[str, ...] = (),
) -> Bundle:
    """Write a bundle whose model files are bytes of no meaning."""
    (folder / "models").mkdir(parents=True)
    models = []
    for stage in ("prepare", "classify", "grade_mel"):
        path = f"models/{stage}.onnx"
        (folder / path).write_bytes(stage.encode())
        models.append(ModelFile(path=path, format="onnx", precision="fp32", entries={stage: stage}))
    if golden_names:
        shape = (1, CAPTURE.height, CAPTURE.width, 3)
        images = ((name, np.full(shape, 90, np.uint8)) for name in golden_names)
        golden.write(folder, images, "rgb", lambda image: {"accepted": np.array([1], np.int32)})
    network = NetworkSpec(architecture="tf_efficientnet_lite0", input_size=224, outputs=7)
    manifest = Manifest(
        name=name,
        taxonomy=TAXONOMY,
        capture=CAPTURE,
        working_size=SIZE,
        fit="crop",
        hair_removal=True,
        quality_rules=(
            QualityRule(measure="hair_coverage", reason="hair", above=0.15, effect="refuse"),
        ),
        grader_variant="separate",
        stages=(
            contract.prepare_spec(CAPTURE, SIZE),
            contract.classify_spec(SIZE, TAXONOMY, None),
            contract.grade_spec(SIZE, TAXONOMY, "mel", None),
        ),
        pipeline=contract.pipeline_spec(CAPTURE, SIZE, TAXONOMY),
        networks={"classify": network},
        models=tuple(models),
        parity=ParityRecipe(),
        weights_licence="CC BY-NC 4.0",
        provenance=Provenance(toolkit="0.0", recipe={}, checkpoints={"classify": "f" * 64}),
        files=writer.pin(folder),
    )
    writer.seal(folder, manifest)
    bundle = Bundle.open(folder)
    for kind, content in (evidence or {}).items():
        bound = {"manifest_sha256": bundle.sha256, **content}
        (folder / "evidence").mkdir(exist_ok=True)
        (folder / "evidence" / f"{kind}.json").write_text(json.dumps(bound))
    return Bundle.open(folder)
