"""What every stage takes and gives: names, dtypes, shapes, units. The same in every format.

A stage reads its inputs by name from what earlier stages gave, so the list of stages is the
whole wiring. A grader reads ``clean`` when it is a network of its own, and ``embedding`` and
``features`` when it is a head on the classifier's trunk.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from classkinfy_export.document import FiniteDocument
from classkinfy_export.taxonomy import Taxonomy

Dtype = Literal["uint8", "int32", "float32"]
StageKind = Literal["prepare", "screen", "classify", "grade", "pipeline"]
GraderVariant = Literal["separate", "trunk"]
Layout = Literal["rgb", "rgba", "nv21"]
WeightsDtype = Literal["float32", "float16"]

DARK_LEVEL, BRIGHT_LEVEL = 120, 230
"""The gray levels below and above which a pixel counts as dark or bright."""

QUALITY_MEASURES = {
    "hair_coverage": "share of pixels under hair, 0..1",
    "sharpness": "variance of the Laplacian, squared gray levels",
    "dark_share": f"share of pixels with gray < {DARK_LEVEL}, 0..1",
    "bright_share": f"share of pixels with gray > {BRIGHT_LEVEL}, 0..1",
}
"""The columns of ``quality``, in order, each with its unit."""

_LAB = ("L", "a", "b")
_HSV = ("hue", "saturation", "value")

SCREEN_FEATURES = {
    "area": "share of the image, 0..1",
    "irregularity": "border squared / (4 pi area), in pixels of lesion_mask",
    "skew_major": "absolute skewness of the lesion along its longer principal axis",
    "skew_minor": "absolute skewness of the lesion along its shorter principal axis",
    "offset": "from the lesion's centroid to its contrast's, shares of the root of its area",
    "eccentricity": "of the ellipse of equal second moments, 0..1",
    "extent_x": "standard deviation along the width, shares of half the height",
    "extent_y": "standard deviation along the height, shares of half the height",
    "rim_share": "share of the image's rim that is lesion, 0..1",
    "texture": "mean absolute difference of L between neighbours in a row, Lab units",
    "threshold": "Otsu's, delta E 76 weighed by place and lightness",
    "contrast": "mean delta E 76 from the skin",
    **{f"lesion_{n}": "mean inside, Lab units" for n in _LAB},
    **{f"skin_{n}": "mean outside, Lab units" for n in _LAB},
    **{f"deviation_{n}": "standard deviation inside, Lab units" for n in _LAB},
    **{f"core_{n}": "mean of the inner part minus skin, Lab units" for n in _LAB},
    **{f"seam_{n}": "mean of the outer part minus skin, Lab units" for n in _LAB},
    **{f"mean_{n}": "mean inside, 0..1; hue is its distance from red, in turns" for n in _HSV},
    **{f"deviation_{n}": "standard deviation inside, likewise" for n in _HSV},
    **{
        f"share_{n}": "share of the lesion of this colour, 0..1; a pixel may be several"
        for n in ("black", "dark_brown", "light_brown", "red", "blue_gray", "white", "purple")
    },
    **{
        f"cluster{k}_{n}": "centre of a cluster minus skin, Lab units; 1 is from the darkest start"
        for k in (1, 2, 3)
        for n in _LAB
    },
    **{f"cluster{k}_share": "share of the lesion, 0..1" for k in (1, 2, 3)},
}
"""The columns of ``features``, in order, each with its unit."""

SCREEN_VERSION = 6
"""Of what ``lesion_mask`` and ``features`` hold; it changes with how they are measured."""

SCREEN_SCALE = 8
"""Pixels of ``clean`` along one pixel of ``lesion_mask``; a rest at the edge is left out."""

SCREEN_SMALLEST = 48
"""The shorter side of ``clean``, pixels, below which there is nothing to segment."""

UNDECIDED = -1
"""``diagnosis`` of a refused frame."""


FormatName = Literal["pytorch", "onnx", "litert"]
Form = Literal["staged", "fused"]
"""Stage after stage, or one graph."""


class Size(FiniteDocument):
    """Height and width, pixels."""

    height: int = Field(gt=0, le=8192)
    width: int = Field(gt=0, le=8192)

    def as_tuple(self) -> tuple[int, int]:
        """Return (height, width)."""
        return self.height, self.width


class WorkingSize(Size):
    """The size of ``clean``: what hair is removed at and networks resize from.

    The area is bounded, at about a megapixel: up to it, the sums behind ``quality`` are exact in
    float32 (``imaging.quality`` adds bytes, one for each run of 16 pixels).
    """

    @model_validator(mode="after")
    def _sums_stay_exact(self) -> Self:
        if self.height * -(-self.width // 16) * 255 >= 2**24:
            raise ValueError(
                f"{self.height} x {self.width} is more than the megapixel to which sums are exact"
            )
        return self


class Capture(Size):
    """What an app hands over: the size of the camera's image, and how its bytes lie.

    - ``rgb``: uint8 [1, H, W, 3].
    - ``rgba``: uint8 [1, H, W, 4]; the last is ignored.
    - ``nv21``: uint8 [1, 3 H / 2, W]: H rows of luma, then H / 2 rows of V and U in turn, one pair
      for a block of 2 x 2 pixels. Full range, BT.601, as JPEG and Android's cameras have it. Rows
      follow one another without padding: packing a camera's strided planes is the app's job.
    """

    layout: Layout = "rgb"

    @model_validator(mode="after")
    def _chroma_covers_blocks(self) -> Self:
        if self.layout == "nv21" and (self.height % 2 or self.width % 2):
            raise ValueError(f"nv21 needs an even height and width, not {self.height}x{self.width}")
        return self


class TensorSpec(FiniteDocument):
    """One named tensor.

    ``exact`` tensors are the same bytes on every runtime; the others are held to a tolerance.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    unit: str
    exact: bool = False


class StageSpec(FiniteDocument):
    """One stage: what it is, what it reads and what it gives."""

    name: str
    kind: StageKind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    diagnosis: str | None = None
    """The class that a grade stage grades."""


class QualityRule(FiniteDocument):
    """A threshold on one quality measure, the reason bit it sets, and whether it refuses."""

    measure: str
    reason: str
    above: float | None = None
    below: float | None = None
    effect: Literal["refuse", "advise"] = "advise"

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.measure not in QUALITY_MEASURES:
            raise ValueError(
                f"measure {self.measure!r} is unknown; known: {', '.join(QUALITY_MEASURES)}"
            )
        if (self.above is None) == (self.below is None):
            raise ValueError(f"rule on {self.measure}: give either 'above' or 'below'")
        return self


class NetworkSpec(FiniteDocument):
    """How a network is built and what pixels it expects: everything but the weights."""

    architecture: str
    """A timm model name."""
    input_size: int = Field(ge=32, le=1024)
    outputs: int = Field(ge=2)
    head: Literal["linear", "mlp"] = "linear"
    """``mlp``: Dropout .3, Linear 128, ReLU, Dropout .2, Linear."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def grade_stage(dx: str) -> str:
    """Return the name of the stage that grades a diagnosis."""
    return f"grade_{dx}"


def image_spec(capture: Capture) -> TensorSpec:
    """Return the contract's image: what an app hands over."""
    height, width = capture.as_tuple()
    shape, unit = {
        "rgb": ((1, height, width, 3), "RGB, HWC, 0..255"),
        "rgba": ((1, height, width, 4), "RGBA, HWC, 0..255, alpha ignored"),
        "nv21": ((1, height * 3 // 2, width), "NV21 without padding, full range BT.601, 0..255"),
    }[capture.layout]
    return TensorSpec(name="image", dtype="uint8", shape=shape, unit=unit, exact=True)


def prepare_spec(capture: Capture, size: WorkingSize) -> StageSpec:
    """Return the spec of the camera's front end, hair removal and quality measures."""
    return StageSpec(
        name="prepare",
        kind="prepare",
        inputs=(image_spec(capture),),
        outputs=(_clean(size), _quality()),
    )


def screen_spec(size: WorkingSize, taxonomy: Taxonomy) -> StageSpec:
    """Return the spec of the instant answer."""
    return StageSpec(
        name="screen",
        kind="screen",
        inputs=(_clean(size),),
        outputs=(_preliminary(taxonomy), _lesion_mask(size), _features()),
    )


def classify_spec(
    size: WorkingSize, taxonomy: Taxonomy, embedding: int | None, *, asks_screen: bool = False
) -> StageSpec:
    """Return the classifier's spec.

    Args:
        size: of ``clean``.
        taxonomy: the classes.
        embedding: its width, when graders share the trunk.
        asks_screen: whether it takes the screen's answer too.
    """
    inputs = [_clean(size), *([_preliminary(taxonomy)] if asks_screen else [])]
    outputs = [_probabilities(taxonomy)]
    if embedding is not None:
        outputs.append(_embedding(embedding))
    return StageSpec(name="classify", kind="classify", inputs=tuple(inputs), outputs=tuple(outputs))


def grade_spec(size: WorkingSize, taxonomy: Taxonomy, dx: str, embedding: int | None) -> StageSpec:
    """Return the spec of one grader; a head on the trunk when ``embedding`` has a width."""
    inputs = (_clean(size),) if embedding is None else (_embedding(embedding), _features())
    return StageSpec(
        name=grade_stage(dx),
        kind="grade",
        inputs=inputs,
        outputs=(_severity(taxonomy),),
        diagnosis=dx,
    )


def pipeline_spec(
    capture: Capture,
    size: WorkingSize,
    taxonomy: Taxonomy,
    *,
    screened: bool = False,
    extra: tuple[str, ...] = (),
) -> StageSpec:
    """Return the spec of the fused graph.

    Args:
        capture: what the app hands over.
        size: of ``clean``.
        taxonomy: the classes.
        screened: whether there is a ``screen`` stage, which gives ``preliminary``.
        extra: also give these of ``clean``, ``lesion_mask`` and ``features``.
    """
    outputs = [
        _quality(),
        TensorSpec(name="accepted", dtype="int32", shape=(1,), unit="0 or 1", exact=True),
        TensorSpec(name="reasons", dtype="int32", shape=(1,), unit="bits", exact=True),
        *([_preliminary(taxonomy)] if screened else []),
        _probabilities(taxonomy),
        TensorSpec(
            name="diagnosis",
            dtype="int32",
            shape=(1,),
            unit=f"class index, {UNDECIDED} when refused",
            exact=True,
        ),
        TensorSpec(name="confidence", dtype="float32", shape=(1,), unit="0..1"),
        _severity(taxonomy),
    ]
    optional = (_clean(size), _lesion_mask(size), _features())
    outputs += [tensor for tensor in optional if tensor.name in extra]
    return StageSpec(
        name="pipeline", kind="pipeline", inputs=(image_spec(capture),), outputs=tuple(outputs)
    )


def decide_spec(fused: StageSpec) -> StageSpec:
    """Return the spec of what decides, within a fused graph alone."""
    tensors = {tensor.name: tensor for tensor in fused.outputs}
    return StageSpec(
        name="decide",
        kind="pipeline",
        inputs=tuple(tensors[n] for n in ("quality", "probabilities")),
        outputs=tuple(tensors[n] for n in ("accepted", "reasons", "diagnosis", "confidence")),
    )


def select_spec(fused: StageSpec, heads: tuple[str, ...]) -> StageSpec:
    """Return the spec of what takes one of the heads' severities, within a fused graph alone."""
    tensors = {tensor.name: tensor for tensor in fused.outputs}
    given = (tensors["severity"].model_copy(update={"name": head}) for head in heads)
    return StageSpec(
        name="select",
        kind="pipeline",
        inputs=(tensors["diagnosis"], *given),
        outputs=(tensors["severity"],),
    )


def _clean(size: WorkingSize) -> TensorSpec:
    shape, unit = (1, size.height, size.width, 3), "RGB, HWC, 0..255, hair removed"
    return TensorSpec(name="clean", dtype="uint8", shape=shape, unit=unit, exact=True)


def _lesion_mask(size: WorkingSize) -> TensorSpec:
    shape = (1, size.height // SCREEN_SCALE, size.width // SCREEN_SCALE)
    unit = f"1 on the lesion, 0 elsewhere; a pixel is {SCREEN_SCALE} x {SCREEN_SCALE} of clean"
    return TensorSpec(name="lesion_mask", dtype="uint8", shape=shape, unit=unit, exact=True)


def _features() -> TensorSpec:
    shape, unit = (1, len(SCREEN_FEATURES)), "screen_features of the manifest"
    return TensorSpec(name="features", dtype="float32", shape=shape, unit=unit)


def _preliminary(taxonomy: Taxonomy) -> TensorSpec:
    unit = "0..1, sums to 1; from shape and colour, every class as likely beforehand"
    shape = (1, len(taxonomy.classes))
    return TensorSpec(name="preliminary", dtype="float32", shape=shape, unit=unit)


def _quality() -> TensorSpec:
    unit = "; ".join(f"{name}: {unit}" for name, unit in QUALITY_MEASURES.items())
    shape = (1, len(QUALITY_MEASURES))
    return TensorSpec(name="quality", dtype="float32", shape=shape, unit=unit, exact=True)


def _probabilities(taxonomy: Taxonomy) -> TensorSpec:
    shape = (1, len(taxonomy.classes))
    return TensorSpec(name="probabilities", dtype="float32", shape=shape, unit="0..1, sums to 1")


def _severity(taxonomy: Taxonomy) -> TensorSpec:
    shape = (1, len(taxonomy.severities))
    unit = "0..1, sums to 1; a proxy grade; NaN when not graded"
    return TensorSpec(name="severity", dtype="float32", shape=shape, unit=unit)


def _embedding(width: int) -> TensorSpec:
    unit = "pooled features of the classifier's trunk"
    return TensorSpec(name="embedding", dtype="float32", shape=(1, width), unit=unit)
