"""The manifest: everything an app needs to know, and the hash of everything it loads."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from classkinfy_export.contract import (
    QUALITY_MEASURES,
    Capture,
    FormatName,
    GraderVariant,
    NetworkSpec,
    QualityRule,
    StageSpec,
    WorkingSize,
)
from classkinfy_export.document import Document, brief, explain
from classkinfy_export.errors import BundleError
from classkinfy_export.precision import Precision, calibrated
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE, Taxonomy
from classkinfy_export.tolerances import ParityRecipe

SCHEMA_VERSION = 2
"""In 1, ``confidence`` was raised after ``classify``, where the screen agreed."""
MANIFEST = "manifest.json"
SEAL = "manifest.json.sha256"
"""The manifest's own hash, as ``sha256sum`` writes it: tells damage, not forgery."""
SIGNATURE = "manifest.json.sig"
"""Who made it, of a bundle that was signed: tells forgery."""
EVIDENCE = "evidence/"
SBOM = "sbom.cdx.json"
"""The bill of materials. Bundles made before it was there have none."""
PIPELINE = "pipeline"

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""What may be half of a pair in UTF-16, or a whole one's, or a backslash and a word."""
_Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class FileEntry(Document):
    """A pinned file."""

    sha256: str = _Sha256
    size_bytes: int = Field(ge=0, lt=2**31)
    """ONNX and LiteRT files end at 2 GiB, and none else is as large."""


class ModelFile(Document):
    """One model file and the stages in it.

    ``entries`` maps a stage to its entry point: the signature in a LiteRT file, the graph in an
    ONNX file.
    """

    path: str
    format: FormatName
    precision: Precision
    entries: dict[str, str]
    """A file whose stages have nothing to quantise is listed once for each precision."""
    ranges: str | None = None
    """The file of its activations' calibrated ranges, where these are quantised."""
    floats: dict[str, tuple[str, ...]] | None = None
    """There, by entry, modules of the backbone whose convolutions are computed in float all the
    same: as the file has it, not as the recipe asked."""


class Stability(Document):
    """How much ranges depend on which photos they were taken from, of two disjoint halves."""

    activations: int = Field(ge=1)
    moved: int = Field(ge=0)
    """Of these, how many have scales in the halves that are more than 20 % apart."""
    worst: str
    """The activation whose scales are furthest apart: the format, and its name in the ranges."""
    shift: float = Field(ge=0, le=1)
    """Of that one, by how much the lesser scale is below the larger, as a share of it."""


class Trained(Document):
    """What training for int8 did to a network, on calibration photos that it was not trained on."""

    stage: str
    before: float = Field(ge=0, allow_inf_nan=False)
    """Noise of int8 activations, of the power of embedding and logits."""
    after: float | None = Field(None, ge=0)
    """None where it diverged."""

    @property
    def kept(self) -> bool:
        """Whether the network is the trained one: where there is less noise."""
        return self.after is not None and self.after < self.before


class Calibration(Document):
    """The photos that the ranges of activations were taken from."""

    images: int = Field(ge=1)
    sha256: str = _Sha256
    """Of their files' hashes, in the order in which they were used."""
    seed: int | None = None
    """That they were drawn with; None of an older bundle, whose photos were evenly spaced."""
    classes: dict[str, int] | None = None
    """Photos by diagnosis; None of a folder that tells none."""
    split_sha256: str | None = None
    """Of the split whose held-out lesions were kept out of them; None where none was known."""
    stability: Stability | None = None
    """None of a single photo, which has no halves."""
    trained: tuple[Trained, ...] = ()
    """Networks that were to be trained for int8, on the same photos."""


class Decided(Document):
    """What a model file decides beside its own format's fp32, in its runtime."""

    format: FormatName
    precision: Precision
    agreement: float = Field(ge=0, le=1)
    """Share of the photos with the same diagnosis."""
    mean_change: float = Field(ge=0, le=1)
    """Mean absolute difference of a probability."""
    temperature: float | None = Field(None, gt=0)
    """What the logarithms of its probabilities are to be divided by to come nearest to fp32's; None
    where none from 0.25 to 4 does."""
    severities: float | None = Field(None, ge=0, le=1)
    """Share of the photos with the same graded diagnosis that have the same severity; None where
    there is no such photo."""
    caveat: str | None = None
    """What kept the machine that measured this from answering as others do."""


class Decisions(Document):
    """What quantising changed, re-measured on the quantised files."""

    images: int = Field(ge=1)
    sha256: str = _Sha256
    """Of their files' hashes, in order. None was calibrated on; where the data tell of lesions, nor
    was any of the same lesion."""
    models: tuple[Decided, ...]


class Provenance(Document):
    """Where the weights and the files came from."""

    toolkit: str
    recipe: dict[str, Any]
    checkpoints: dict[str, str]
    """SHA-256 of each stage's weights."""
    data: dict[str, str] = Field(default_factory=dict)
    """Name, fingerprint and split hash of the training data, where known."""
    training_recipe_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Of the run's ``recipe.json``; None of single checkpoints."""
    versions: dict[str, str] = Field(default_factory=dict)


class Manifest(Document):
    """``manifest.json``. Deterministic: no time, no path, no host."""

    schema_version: Literal[2] = 2
    name: str
    disclaimer: str = DISCLAIMER
    severity_notice: str = PROXY_NOTICE
    taxonomy: Taxonomy
    capture: Capture
    """What the app hands over."""
    working_size: WorkingSize
    """The size of ``clean``."""
    fit: Literal["crop", "pad"]
    hair_removal: bool
    quality_measures: tuple[str, ...] = tuple(QUALITY_MEASURES)
    screen_features: dict[str, str] | None = None
    """The columns of ``features``, each with its unit; None without a ``screen`` stage."""
    quality_rules: tuple[QualityRule, ...]
    """Rule i sets bit i of ``reasons``."""
    grader_variant: GraderVariant | None = None
    """None when nothing is graded."""
    stages: tuple[StageSpec, ...]
    pipeline: StageSpec | None = None
    """The fused graph, when a model file holds one."""
    networks: dict[str, NetworkSpec]
    models: tuple[ModelFile, ...]
    calibration: Calibration | None = None
    """None of a bundle whose activations are all float."""
    decisions: Decisions | None = None
    """None where nothing quantised stands beside fp32 of its format, no photos were given, or all
    were calibrated on."""
    parity: ParityRecipe
    weights_licence: str
    provenance: Provenance
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _pins_its_models(self) -> Self:
        for model in self.models:
            for path in (model.path, model.ranges):
                if path is not None and path not in self.files:
                    raise ValueError(f"model {path} has no hash under 'files'")
        floats = {model.path for model in self.models if model.precision == "fp32"}
        for model in self.models:
            lacking = calibrated(model.precision) and model.ranges is None
            if self._changes(model) and (model.path in floats or lacking):
                raise ValueError(
                    f"model {model.path} is listed as {model.precision}, and is not quantised"
                )
        for path in self.files:
            parts = path.split("/")
            if path.startswith("/") or "\\" in path or ":" in path or {"", ".", ".."} & {*parts}:
                raise ValueError(f"file {path!r} is not a plain relative path")
        return self

    @model_validator(mode="after")
    def _stages_in_order(self) -> Self:
        """Of two stages that wait for each other, one takes what none before it gives."""
        known = {"image"}
        for stage in self.stages:
            for tensor in stage.inputs:
                if tensor.name not in known:
                    raise ValueError(
                        f"stage {stage.name} takes {tensor.name!r}, which no stage before it gives"
                    )
            if stage.kind != "grade":  # one grader runs, as is decided
                known |= {tensor.name for tensor in stage.outputs}
        return self

    def _changes(self, model: ModelFile) -> bool:
        """Whether a file holds what its precision changes of fp32.

        Weights change wherever there are any; activations where a stage sees the photo through a
        network, not where its head is given the classifier's embedding.
        """
        if model.precision == "fp32":
            return False
        specs = [self.stage(name) for name in model.entries if name != PIPELINE]
        return PIPELINE in model.entries or any(
            spec.kind in ("classify", "grade")
            and (not calibrated(model.precision) or any(t.name == "clean" for t in spec.inputs))
            for spec in specs
        )

    @property
    def sha256(self) -> str:
        """The bundle's id: the hash of the manifest's bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Serialise: the same manifest gives the same bytes."""
        content = self.model_dump(mode="json", exclude_none=True)
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Self:
        """Parse and check. Raises BundleError with the first problem in one line."""
        try:
            content = json.loads(data.decode())  # of bytes it would take halved pairs
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"{source} is not JSON: {brief(str(error))}", hint="export it again"
            ) from error
        if _SURROGATE.search(data):
            try:
                json.dumps(content, ensure_ascii=False).encode()
            except UnicodeEncodeError:  # Python reads it, and could not print it
                raise BundleError(
                    f"{source} holds half a character", hint="export it again"
                ) from None
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"{source} has schema version {version}, this toolkit reads up to {SCHEMA_VERSION}",
                hint="install a newer classkinfy-export",
            )
        if isinstance(version, int) and version < SCHEMA_VERSION:
            raise BundleError(
                f"{source} has schema version {version}, this toolkit reads {SCHEMA_VERSION}: "
                "confidence is decided otherwise now",
                hint="export it again",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise BundleError(f"{source}: {explain(error, cls)}", hint="export it again") from error

    @property
    def unrouted(self) -> tuple[str, ...]:
        """The stages that run on every image, in order: all but the graders."""
        return tuple(stage.name for stage in self.stages if stage.kind != "grade")

    @property
    def graded(self) -> tuple[str, ...]:
        """The diagnoses that have a grader, in order."""
        return tuple(s.diagnosis for s in self.stages if s.diagnosis is not None)

    def stage(self, name: str) -> StageSpec:
        """Return a stage's spec, the fused pipeline's included. Raises BundleError if absent."""
        specs: list[StageSpec] = [*self.stages, *([self.pipeline] if self.pipeline else [])]
        for spec in specs:
            if spec.name == name:
                return spec
        raise BundleError(
            f"the bundle has no stage {name!r}",
            hint=f"it has {', '.join(spec.name for spec in self.stages)}",
        )

    def staged_formats(self) -> set[FormatName]:
        """Return the formats that hold every stage, so that an app can run one after another."""
        stages = {stage.name for stage in self.stages}
        held: dict[FormatName, set[str]] = {}
        for model in self.models:
            held.setdefault(model.format, set()).update(model.entries)
        return {form for form, names in held.items() if stages <= names}

    def find_model(self, stage: str, form: FormatName, precision: Precision) -> ModelFile | None:
        """Return the model file that holds a stage in a format and precision, if there is one."""
        for model in self.models:
            if stage in model.entries and model.format == form and model.precision == precision:
                return model
        return None
