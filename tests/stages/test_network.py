"""Networks of timm, by what their backbones give."""

from __future__ import annotations

import pytest
import torch

from classkinfy_export.contract import NetworkSpec
from classkinfy_export.errors import CheckpointError
from classkinfy_export.stages.network import Network


@pytest.mark.parametrize("architecture", ["test_efficientnet", "mobilenetv3_small_050"])
def test_a_head_fits_what_the_backbone_gives(architecture: str) -> None:
    """MobileNetV3 widens what it pooled, EfficientNet does not."""
    network = Network(NetworkSpec(architecture=architecture, input_size=64, outputs=3)).eval()
    levels = torch.rand(2, 3, 64, 64) * 255
    assert network.embed(levels).shape == (2, network.embedding_width)
    assert network(levels).shape == (2, 3)


@torch.no_grad()
def test_dropped_paths_vary_training_alone() -> None:
    spec = NetworkSpec(architecture="tf_efficientnet_lite0", input_size=64, outputs=3)
    network, levels = Network(spec, drop_path=0.5), torch.rand(8, 3, 64, 64) * 255
    assert network.state_dict().keys() == Network(spec).state_dict().keys()
    assert len({float(network(levels).sum()) for _ in range(4)}) == 4
    network.eval()
    assert torch.equal(network(levels), network(levels))
    plain = NetworkSpec(architecture="vgg11", input_size=64, outputs=3)
    with pytest.raises(CheckpointError, match="vgg11 does not take drop_path"):
        Network(plain, drop_path=0.5)
