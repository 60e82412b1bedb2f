"""Typed recipes, loaded from YAML: how to train, what to export, how equal runtimes must be.

Recipes are frozen. An unknown key, a wrong type or two fields that contradict each other raise
``RecipeError`` with the file, the key and what is allowed.
"""

from __future__ import annotations

import copy
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from classkinfy_export import safe_yaml
from classkinfy_export.contract import (
    SCREEN_SMALLEST,
    Capture,
    Form,
    FormatName,
    GraderVariant,
    NetworkSpec,
    QualityRule,
    WeightsDtype,
    WorkingSize,
)
from classkinfy_export.document import FiniteDocument, explain
from classkinfy_export.errors import RecipeError
from classkinfy_export.precision import Offered, calibrated
from classkinfy_export.taxonomy import Taxonomy
from classkinfy_export.tolerances import ParityRecipe

_SHIPPED = (Path(__file__).parent / "_recipes", Path(__file__).parent.parent)


_Stage = Annotated[str, Field(pattern="^(classify|grade_.+)$")]
"""One that may hold a network."""
Blocks = tuple[str, ...]
"""Modules of a backbone, as timm names them: ``conv_stem``, ``blocks.0``, ``blocks.3.1``."""
_Deviation = Annotated[float, Field(gt=0)]


class SplitRecipe(FiniteDocument):
    """Shares of the lesions in each part; the rest is for training."""

    val: float = Field(0.10, ge=0, lt=1)
    calib: float = Field(0.05, ge=0, lt=1)
    test: float = Field(0.20, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.val + self.calib + self.test >= 1:
            raise ValueError("val + calib + test leave nothing to train on")
        return self


class NetworkRecipe(FiniteDocument):
    """A network to train: a timm architecture, its start, its input."""

    architecture: str = "tf_efficientnet_lite0"
    weights: Literal["imagenet", "none"] = "imagenet"
    """``imagenet``: from the installed weights package when it has them, else timm's hub."""
    input_size: int = Field(224, ge=32, le=1024)
    head: Literal["linear", "mlp"] = "linear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[_Deviation, _Deviation, _Deviation] = (0.5, 0.5, 0.5)
    drop_path: float = Field(0.0, ge=0, lt=1)
    """In training, how often the last residual branch is left out (Huang et al., 2016), earlier
    ones in proportion to their depth."""

    def spec(self, outputs: int) -> NetworkSpec:
        """Return the network's spec for a number of outputs."""
        return NetworkSpec(
            architecture=self.architecture,
            input_size=self.input_size,
            outputs=outputs,
            head=self.head,
            mean=self.mean,
            std=self.std,
        )


class AugmentRecipe(FiniteDocument):
    """How images are varied in training. Amounts are the largest, each image draws its own."""

    flips: bool = True
    rotation: float = Field(0.0, ge=0, le=180)
    """Degrees."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Relative, up and down."""
    shift: float = Field(0.0, ge=0, lt=1)
    """Of half the side."""
    colour: float = Field(0.1, ge=0, lt=1)
    """Relative change of brightness, contrast and saturation."""
    white_balance: float = Field(0.1, ge=0, lt=1)
    """Relative change of each channel's gain."""
    hair: float = Field(0.0, ge=0, le=1)
    """Share of images with hair painted on."""
    vignette: float = Field(0.0, ge=0, le=1)
    """Share of images with dark corners."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_alpha: float = Field(0.2, gt=0)
    mix_share: float = Field(1.0, gt=0, le=1)
    """Of the batches."""


class FitRecipe(FiniteDocument):
    """One training: optimiser, schedule, sampling, loss, augmentation."""

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(32, ge=1)
    """Over all processes together."""
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["one_cycle", "plateau"] = "one_cycle"
    """``plateau``: the rate times 0.3 after 5 epochs without a better balanced accuracy."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better balanced accuracy, and keep the best epoch."""
    sampling: Literal["natural", "square_root", "balanced"] = "square_root"
    """How often a class is drawn: as it occurs, by the root of that, or as often as any other."""
    class_weights: Literal["none", "inverse", "effective"] = "none"
    """Of the loss: inverse frequency, or of the effective number of samples (Cui et al., 2019)."""
    focal: float = Field(0.0, ge=0)
    """Exponent of the focal loss (Lin et al., 2017); 0 is cross-entropy."""
    logit_adjustment: float = Field(0.0, ge=0, le=1)
    """Of the loss: times the log of each class's share of what is drawn, added to its logit (Menon
    et al., 2021). With 1 the network answers as if every class were as likely as any other."""
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    start_size: int | None = Field(None, ge=32)
    """Side of the images in the first epoch; it grows to the network's own by the middle."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    gradient_clip: float = Field(2.0, gt=0)
    freeze_norm: bool = False
    """Keep batch norm's statistics as they started."""
    freeze_stages: int = Field(0, ge=0)
    """The first stages of the backbone to keep as they started, the stem counted as one. They see
    edges and colours, which ImageNet taught, and are the dearest to train."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Lightning's; ``16-mixed`` becomes ``32-true`` without a GPU."""
    augment: AugmentRecipe = AugmentRecipe()


class Hardware(FiniteDocument):
    """What to train on, as Lightning's Trainer takes it; figures do not depend on it."""

    devices: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)


class ClassifierRecipe(FiniteDocument):
    """The first stage."""

    network: NetworkRecipe = NetworkRecipe()
    fit: FitRecipe = FitRecipe()
    distillation: float = Field(0.0, ge=0, le=1)
    """Share of the loss that is the distance from what the teachers say (Hinton et al., 2015); they
    are runs made before, ``classkinfy train --teacher``."""
    severity_task: float = Field(0.0, ge=0)
    """Weight of a second task, which is left out of what is kept: to tell from the embedding what
    the severity proxy measures. Heads on the trunk then find it there."""


class GraderRecipe(FiniteDocument):
    """The second stage: networks of their own, or heads on the classifier's trunk."""

    variant: GraderVariant = "trunk"
    network: NetworkRecipe | None = None
    fit: FitRecipe = FitRecipe(epochs=40, batch_size=64, label_smoothing=0.0)

    @model_validator(mode="after")
    def _network_fits_variant(self) -> Self:
        if (self.network is not None) != (self.variant == "separate"):
            raise ValueError("'network' belongs to variant 'separate', and is needed there")
        of_images = self.fit.start_size is not None or self.fit.freeze_stages
        if self.network is None and of_images:
            raise ValueError(
                "fit.start_size and fit.freeze_stages are for networks, not for heads on the trunk"
            )
        return self


class TrainRecipe(FiniteDocument):
    """Everything that a training run is made of, but the data."""

    taxonomy: Taxonomy = Taxonomy()
    working_size: WorkingSize = WorkingSize(height=450, width=600)
    hair_removal: bool = True
    seed: int = 0
    split: SplitRecipe = SplitRecipe()
    classifier: ClassifierRecipe = ClassifierRecipe()
    graders: GraderRecipe = GraderRecipe()
    weights_licence: str = Field("CC-BY-NC-4.0", min_length=1)
    """SPDX identifier of the weights' licence; HAM10000's data make it CC-BY-NC-4.0."""
    weights_dtype: WeightsDtype = "float32"
    """What networks are kept in. They are rounded to it before anything is measured of them."""

    @model_validator(mode="after")
    def _severity_task_has_severities(self) -> Self:
        if self.classifier.severity_task and not self.taxonomy.graded:
            raise ValueError("classifier.severity_task needs diagnoses in taxonomy.graded")
        return self

    @model_validator(mode="after")
    def _holds_a_lesion(self) -> Self:
        if min(self.working_size.as_tuple()) < SCREEN_SMALLEST:
            raise ValueError(
                f"working_size needs {SCREEN_SMALLEST} pixels a side and more, for 'screen' to "
                f"find a lesion in it, not {self.working_size.height}x{self.working_size.width}"
            )
        return self


class CalibrationRecipe(FiniteDocument):
    """Which photos the ranges of activations are taken from, of those that are given."""

    images: int = Field(256, ge=1)
    """At most so many; of a data set as evenly over the diagnoses as it allows."""
    seed: int = 0
    """Another one draws other photos."""


class QatRecipe(FiniteDocument):
    """Quantisation-aware training, on the calibration photos."""

    epochs: int = Field(4, ge=1)
    learning_rate: float = Field(0.001, gt=0.0, le=1.0)
    """Of Adam, in steps of a weight's int8 scale; it falls to nothing as a cosine does."""
    seed: int = 0
    """Of the photos' order, and of how they are turned."""


class FloatBlocks(FiniteDocument):
    """Modules of a backbone, by format; a list instead means both formats."""

    onnx: Blocks = ()
    litert: Blocks = ()

    @model_validator(mode="before")
    @classmethod
    def _alike(cls, given: object) -> object:
        return {"onnx": given, "litert": given} if isinstance(given, list | tuple) else given


class ExportRecipe(FiniteDocument):
    """What a bundle holds."""

    name: str = Field("mobile", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    taxonomy: Taxonomy | None = None
    """Only for checkpoints that do not carry their own."""
    capture: Capture = Capture(height=450, width=600)
    """What the app hands over; resized to the working size first, where the two differ."""
    working_size: WorkingSize | None = None
    """Only for checkpoints that do not carry their own; the capture's when neither says."""
    fit: Literal["crop", "pad"] = "crop"
    """How ``frame`` makes a photo of another shape fit the capture's."""
    hair_removal: bool | None = None
    """As in training by default; on, where a checkpoint does not say how it was trained."""
    quality_rules: tuple[QualityRule, ...] = Field((), max_length=31)
    """Each has a bit of ``reasons``, an int32."""
    formats: tuple[FormatName, ...] = Field(("pytorch", "onnx", "litert"), min_length=1)
    forms: tuple[Form, ...] = Field(("staged", "fused"), min_length=1)
    precisions: tuple[Offered, ...] = Field(("fp32",), min_length=1)
    calibration: CalibrationRecipe = CalibrationRecipe()
    """Of the precisions whose activations are quantised."""
    float_blocks: dict[_Stage, FloatBlocks] = Field(default_factory=dict)
    """In those precisions, by stage, what to compute in float."""
    qat: QatRecipe | None = None
    """Train networks for those precisions first, which takes minutes to hours."""
    opset: int = Field(18, ge=18, le=20)
    pipeline_outputs: tuple[Literal["clean", "lesion_mask", "features"], ...] = ()
    golden: bool = True
    parity: ParityRecipe = ParityRecipe()
    weights_licence: str | None = Field(None, min_length=1)
    """Only for checkpoints that do not carry their own."""

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for field in ("formats", "forms", "precisions", "pipeline_outputs"):
            values: tuple[str, ...] = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names something twice: {', '.join(values)}")
        return self

    @model_validator(mode="after")
    def _formats_hold_precisions(self) -> Self:
        static = [precision for precision in self.precisions if calibrated(precision)]
        if self.qat is not None and not static:
            raise ValueError("qat trains for int8 activations: put static_wi8_ai8 in precisions")
        if self.qat is not None and "weight_only_wi8_afp32" in self.precisions:
            raise ValueError(
                "qat trains for int8 activations, which weight_only_wi8_afp32 has not, and int8 "
                "weights are the same in all precisions of a bundle: leave out either"
            )
        return self

    def blocks_in_float(self, stage: str, format_name: FormatName) -> Blocks:
        """Return what ``float_blocks`` leaves in float of a stage, in one format."""
        blocks = self.float_blocks.get(stage, FloatBlocks())
        return {"onnx": blocks.onnx, "litert": blocks.litert}.get(format_name, ())


_Recipe = TypeVar("_Recipe", TrainRecipe, ExportRecipe, ParityRecipe)


def find(name: str | Path) -> Path:
    """Return the recipe's path: as given, or among the recipes this package ships.

    Raises:
        RecipeError: there is no such file.
    """
    path = Path(name)
    for candidate in (path, *(root / path for root in _SHIPPED)):
        if candidate.is_file():
            return candidate
    raise RecipeError(
        f"recipe {str(path)!r} does not exist",
        hint="give a path, or one of the shipped train/*.yaml and export/*.yaml",
    )


def load(name: str | Path, kind: type[_Recipe], overrides: tuple[str, ...] = ()) -> _Recipe:
    """Read a recipe, apply ``key.sub=value`` overrides, and check it.

    Args:
        name: a path, or a shipped recipe's name such as ``train/mobile.yaml``.
        kind: ``TrainRecipe``, ``ExportRecipe`` or ``ParityRecipe``.
        overrides: values in YAML, for example ``classifier.fit.epochs=2``.

    Raises:
        RecipeError: no such file, no YAML, an unknown key, a wrong or contradictory value.
    """
    path = find(name)
    try:
        content = safe_yaml.load(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"recipe {path} cannot be read as YAML: {error}", hint="correct it there"
        ) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise RecipeError(
            f"recipe {path} must hold keys and values, not {reprlib.repr(content)}",
            hint="correct it there",
        )
    return parse(content, kind, str(path), overrides)


def parse(
    content: dict[str, Any],
    kind: type[_Recipe],
    source: str = "recipe",
    overrides: tuple[str, ...] = (),
) -> _Recipe:
    """Apply overrides to a recipe's content, as ``load``, and check it.

    Raises:
        RecipeError: an override is none, or the content is wrong: one line for the first problem.
    """
    content = copy.deepcopy(content)
    for override in overrides:
        _override(content, override)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{source}: {explain(error, kind)}", hint="correct it there") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(
            f"override {override!r} is not key=value", hint="for example classifier.fit.epochs=2"
        )
    *parents, leaf = key.split(".")
    for parent in parents:
        nested = content.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise RecipeError(f"override {override!r}: {parent!r} holds a value, not keys")
        content = nested
    try:
        content[leaf] = safe_yaml.load(value)
    except ValueError as error:
        raise RecipeError(f"override {override!r}: {value!r} is not YAML") from error
