"""Row operations as LiteRT runs them fast: each column a channel, so that a row is one vector.

Its pooling and resizing kernels vectorise over channels, and a plane has one. What works along both
axes works along rows, is transposed, and works along rows again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def along_both(image: Tensor, along_rows: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply to rows, then to columns.

    Args:
        image: [n, c, h, w].
        along_rows: ``repeated``, or what ``as_channels`` wraps.

    Returns:
        [n, c, h', w'], as if ``along_rows`` had worked on both axes.
    """
    return transposed(along_rows(transposed(along_rows(image))))


def as_channels(image: Tensor, operation: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply an operation on axis 2 of [n, c, h, w] with its columns as channels: [n, w, h, c]."""
    return operation(image.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)


def repeated(image: Tensor) -> Tensor:
    """Give every row of [n, c, h, w] twice."""
    return torch.stack((image, image), dim=3).flatten(2, 3)


def transposed(image: Tensor) -> Tensor:
    """Swap rows and columns of [n, c, h, w]."""
    n, c, height, width = image.shape
    # Through three axes: LiteRT's converter would merge four-axis permutations into one it lacks.
    return image.reshape(n * c, height, width).transpose(1, 2).reshape(n, c, width, height)
