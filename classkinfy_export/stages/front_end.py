"""The front end of ``prepare``: the camera's bytes to planes of the working size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classkinfy_export.contract import Capture, WorkingSize
from classkinfy_export.imaging.layout import from_nv21, to_planes
from classkinfy_export.imaging.resize import Resize


class FrontEnd(nn.Module):
    """Read the capture's layout, then resize exactly where its size is not the working size.

    Args:
        capture: what the app hands over.
        size: the size wanted.
    """

    def __init__(self, capture: Capture, size: WorkingSize) -> None:
        super().__init__()
        self.layout = capture.layout
        same = capture.as_tuple() == size.as_tuple()
        self.resize = None if same else Resize(capture.as_tuple(), size.as_tuple())

    def forward(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """Run on the capture's uint8 image: levels in ``dtype``, [3, n, h, w]."""
        planes = from_nv21(image, dtype) if self.layout == "nv21" else to_planes(image)
        if self.layout == "rgba":
            planes = planes[:3]
        if self.resize is not None:
            planes = self.resize(planes.to(torch.float32))
        return planes.to(dtype)
