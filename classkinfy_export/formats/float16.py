"""What float16 holds of a network's weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from classkinfy_export.errors import ExportError

LARGEST = float(np.finfo(np.float16).max)


def check(name: str, weight: npt.NDArray[np.float32]) -> None:
    """Check that no value of a weight is beyond float16.

    Args:
        name: of the weight, for the message.
        weight: its values.

    Raises:
        ExportError: one is, or is NaN.
    """
    largest = float(np.abs(weight).max())
    if not largest <= LARGEST:
        raise ExportError(
            f"the weight {name} holds {largest:g}, and float16 ends at {LARGEST:g}",
            hint="keep the weights as weight_only_wi8_afp32, or leave fp16 out of the recipe",
        )
