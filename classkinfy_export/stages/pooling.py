"""Means over a plane, in sums that half precision can hold.

GPU delegates may add in half precision, which ends at 65,504: an EfficientNet-B0 squeezes planes of
112 x 112 pixels, whose sum is infinite where they average 5.3, and every answer is NaN (LiteRT's
issue #9249). So planes of many pixels are averaged in two steps. Few pixels stay one step, which is
faster in ONNX Runtime.
"""

from __future__ import annotations

from typing import Any

from timm.models import _efficientnet_blocks as timm_blocks
from torch import Tensor, nn

MOST_TERMS = 512
"""Pixels of a plane that is averaged in one step. No sum has more terms, as long as no plane is
wider or higher: while pixels average 127 and less, none overflows."""


def plane_mean(planes: Tensor) -> Tensor:
    """Average float32 [n, c, h, w] over h and w to float32 [n, c, 1, 1]."""
    if planes.shape[2] * planes.shape[3] <= MOST_TERMS:
        return planes.mean((2, 3), keepdim=True)
    return planes.mean(2, keepdim=True).mean(3, keepdim=True)


class PlaneMean(nn.Module):
    """``plane_mean`` in place of ``nn.AdaptiveAvgPool2d(1)``."""

    def forward(self, planes: Tensor) -> Tensor:
        """Run on float32 [n, c, h, w]: float32 [n, c, 1, 1]."""
        return plane_mean(planes)


class SqueezeExcite(nn.Module):
    """timm's, with its very layers by their names, and ``plane_mean`` for its squeeze.

    Args:
        original: an EfficientNet's or MobileNet's.
    """

    def __init__(self, original: Any) -> None:  # noqa: ANN401  (untyped upstream)
        super().__init__()
        self.conv_reduce = original.conv_reduce
        self.act1 = original.act1
        self.conv_expand = original.conv_expand
        self.gate = original.gate

    def forward(self, planes: Tensor) -> Tensor:
        """Weigh each channel of float32 [n, c, h, w] by what all of them average."""
        squeezed = self.act1(self.conv_reduce(plane_mean(planes)))
        weighed: Tensor = planes * self.gate(self.conv_expand(squeezed))
        return weighed


def bound_sums(network: nn.Module) -> None:
    """Average in few terms wherever a network squeezes and excites, or pools whole planes.

    Weights and their names stay. Other modules that average are left as they are, such as the
    attention of families beside EfficientNet and MobileNet; ``inspect --half-range`` tells of them.

    Args:
        network: of timm; altered in place.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is timm_blocks.SqueezeExcite:
                setattr(parent, name, SqueezeExcite(child))
            elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(parent, name, PlaneMean())
