"""How equal runtimes must be: what is asked of each, of each tensor and of each precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from classkinfy_export.document import FiniteDocument
from classkinfy_export.precision import Precision, calibrated

RuntimeName = Literal[
    "pytorch",
    "onnxruntime",
    "litert",
    "litert-reference",
    "tensorflow",
    "arm64-onnxruntime",
    "arm64-litert",
    "arm64-a53-onnxruntime",
    "arm64-a53-litert",
    "x86-avx2-onnxruntime",
    "web-onnxruntime",
    "web-onnxruntime-node",
    "web-litert",
]


class RuntimeParity(FiniteDocument):
    """What is asked of one runtime."""

    images: int | None = Field(None, ge=1)
    """At most so many, evenly spaced; None of a runtime that is fast enough for all."""
    looser: float = Field(1.0, ge=1)
    """Its tolerances are so many times the recipe's; exact tensors stay exact."""
    flips: Annotated[int, Field(ge=0)] | Literal["any"] = 0
    """Images with another decision, at most; ``any`` leaves it to ``flip_rate``."""
    flip_rate: float = Field(0.003, gt=0, lt=1)
    """Largest share of such images. To prove it takes ``ln .05 / ln(1 - rate)`` of them without
    one: 998 for 0.3 %. Of fewer not one may differ, and it is said that nothing is proven."""
    own_rounding: bool = False
    """Whether its int8 kernels round otherwise than those of the format's first runtime. It is then
    seen beside PyTorch, as that one is, for it computes something else of the same file."""


class QuantisedParity(FiniteDocument):
    """What is asked of a precision other than fp32 beside PyTorch, and of an int8 file in others.

    What keeps only its weights otherwise computes in float, and is held as fp32 from runtime to
    runtime.
    """

    steps: float = Field(1.0, ge=0)
    """How far ``embedding`` may be from the format's first runtime's, which runs the same file; in
    int8 steps of the network's last quantised tensor, of which it is the mean over positions."""
    probability: float = Field(1 / 256, ge=0)
    """Likewise a probability: a step of an int8 one."""
    flip_rate: float = Field(0.005, gt=0, lt=1)
    """Largest share of images whose decision is not the first runtime's."""
    widest_flip: float = Field(0.02, ge=0, le=1)
    """Of labels among these, the largest margin between the two likeliest classes."""
    drift: float = Field(0.15, gt=0, lt=1)
    """Largest share of images whose decision is not PyTorch's. What quantisation costs in accuracy
    is told with ``--labels``."""
    mean_shift: float = Field(0.06, gt=0, le=1)
    """Beside PyTorch, the mean over images of the largest change of a probability."""
    weight_only_drift: float = Field(0.01, gt=0, lt=1)
    """As ``drift``, of int8 weights that are computed in float."""
    weight_only_mean_shift: float = Field(0.02, gt=0, le=1)
    fp16_drift: float = Field(0.002, gt=0, lt=1)
    """Likewise, of weights kept as halves."""
    fp16_mean_shift: float = Field(0.001, gt=0, le=1)

    def beside_pytorch(self, precision: Precision) -> tuple[float, float]:
        """Return the drift and the mean shift that a precision other than fp32 is allowed."""
        if calibrated(precision):
            return self.drift, self.mean_shift
        if precision == "fp16":
            return self.fp16_drift, self.fp16_mean_shift
        return self.weight_only_drift, self.weight_only_mean_shift


_EMULATED: dict[str, Any] = {"images": 20, "looser": 10.0, "flip_rate": 0.15}
_WEB: dict[str, Any] = {"images": 50, "looser": 10.0, "flip_rate": 0.06}
_ASKED: dict[RuntimeName, dict[str, Any]] = {
    "litert-reference": {"images": 100, "looser": 10.0, "flip_rate": 0.03, "own_rounding": True},
    "arm64-onnxruntime": _EMULATED,
    "arm64-litert": _EMULATED,
    "arm64-a53-onnxruntime": _EMULATED,
    "arm64-a53-litert": _EMULATED,
    "x86-avx2-onnxruntime": _EMULATED,
    "web-onnxruntime": _WEB,
    "web-onnxruntime-node": _WEB,
    "web-litert": _WEB,
}
"""Of slow runtimes, and of those whose kernels add up in another order."""


class ParityRecipe(FiniteDocument):
    """Largest absolute difference from PyTorch that still passes, by tensor; exact ones need 0."""

    preliminary: float = Field(1e-5, ge=0)
    features: float = Field(1e-3, ge=0)
    probabilities: float = Field(1e-5, ge=0)
    confidence: float = Field(1e-5, ge=0)
    severity: float = Field(1e-5, ge=0)
    embedding: float = Field(1e-3, ge=0)
    close_call: float = Field(0.02, gt=0, le=1)
    """How near the two likeliest classes are, for a small change to matter."""
    quantised: QuantisedParity = Field(default_factory=QuantisedParity)
    runtimes: dict[RuntimeName, RuntimeParity] = Field(
        default_factory=lambda: {name: RuntimeParity(**asked) for name, asked in _ASKED.items()}
    )
    """What is asked of some else than of others. What a recipe says is laid over what slow
    runtimes are asked by default, field by field."""

    @model_validator(mode="before")
    @classmethod
    def _laid_over_defaults(cls, content: Any) -> Any:  # noqa: ANN401  (not validated yet)
        given = content.get("runtimes") if isinstance(content, dict) else None
        if not isinstance(given, dict):
            return content
        merged: dict[Any, Any] = {**_ASKED, **given}
        for name, asked in _ASKED.items():
            if isinstance(given.get(name), dict):
                merged[name] = {**asked, **given[name]}
        return {**content, "runtimes": merged}

    def of(self, runtime: str) -> RuntimeParity:
        """Return what is asked of a runtime."""
        own = (asked for name, asked in self.runtimes.items() if name == runtime)
        return next(own, RuntimeParity())

    def tolerance(self, runtime: str, tensor: str) -> float:
        """Return the largest absolute difference of a tensor that passes; 0 of exact ones."""
        name = "severity" if tensor.startswith("severity_") else tensor
        allowed = float(getattr(self, name)) if name in _TOLERATED else 0.0
        return allowed * self.of(runtime).looser


_TOLERATED = ("preliminary", "features", "probabilities", "confidence", "severity", "embedding")
