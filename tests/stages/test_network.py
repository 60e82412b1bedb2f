"""Networks of timm, by what their backbones give."""

from __future__ import annotations

import pytest
import torch

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.stages.network import Network


@pytest.mark.parametrize("architecture", ["test_efficientnet", "mobilenetv3_small_050"])
def test_a_head_fits_what_the_backbone_gives(architecture: str) -> None:
    """MobileNetV3 widens what it pooled, EfficientNet does not."""
    network = Network(NetworkSpec(architecture=architecture, input_size=64, outputs=3)).eval()
    levels = torch.rand(2, 3, 64, 64) * 255
    assert network.embed(levels).shape == (2, network.embedding_width)
    assert network(levels).shape == (2, 3)
