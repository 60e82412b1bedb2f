"""What is known of operators that cost more than they need to, and what to do.

Each was measured as this project's stages were written; times are of one x86 core.
"""

from __future__ import annotations

from collections.abc import Callable

from classkinfy_export.latency.operators.recording import Recorded

Applies = Callable[[str, Recorded], bool]
"""Whether a hint is for an operator of a runtime, by its name."""


def hint(runtime: str, row: Recorded) -> str | None:
    """Return the first hint for an operator, None where nothing is known.

    Args:
        runtime: its name.
        row: the operator.
    """
    return next((text for applies, text in _HINTS if applies(runtime, row)), None)


def _onnx(*operators: str, dtype: str | None = None) -> Applies:
    return lambda runtime, row: (
        runtime == "onnxruntime"
        and row.operator in operators
        and (dtype is None or row.dtype == dtype)
    )


def _litert(*operators: str, dtype: str | None = None, own: bool = False) -> Applies:
    return lambda runtime, row: (
        runtime == "litert"
        and (not operators or row.operator in operators)
        and (dtype is None or row.dtype == dtype)
        and (not own or row.kernel is None)
    )


_HINTS: tuple[tuple[Applies, str], ...] = (
    (
        _onnx("MaxPool", dtype="uint8"),
        "uint8 pooling has no fast kernel: shift the image by 1, 2, 4, … with Slice and Max, which "
        "is exact and took 0.21 ms where this took 7.6",
    ),
    (
        _litert("MAX_POOL_2D", "REDUCE_WINDOW", dtype="uint8", own=True),
        "XNNPACK takes no uint8 pooling: slices and maxima in int32 or float32 are exact, and took "
        "0.8 ms where this took 19.8",
    ),
    (
        _litert("MIRROR_PAD", own=True),
        "XNNPACK takes no MIRROR_PAD: Slice and Concat of the border are exact, and took 0.7 ms "
        "where this took 3.5, of 450x600",
    ),
    (
        _onnx("QLinearSigmoid", "QLinearMul"),
        "int8 swish is two passes over the tensor: a network of ReLU6, as EfficientNet-Lite, has "
        "none of them",
    ),
    (
        _onnx("QuickGelu"),
        "swish is a pass over the tensor of its own: ReLU6, as in EfficientNet-Lite, is fused into "
        "the convolution",
    ),
    (
        _onnx("DequantizeLinear", "QuantizeLinear"),
        "a border between int8 and float that was not fused: fewer float_blocks, or whole ones, "
        "have fewer",
    ),
    (
        _onnx("ReorderInput", "ReorderOutput"),
        "a change of layout, around an operator that has no blocked kernel",
    ),
    (
        _litert("DEQUANTIZE", "QUANTIZE"),
        "a border between int8 and float: around a padding, which stays in float, or a block of "
        "float_blocks",
    ),
    (
        _litert(own=True),
        "XNNPACK did not take it, so LiteRT's own kernel runs: another operator or dtype may do",
    ),
)
