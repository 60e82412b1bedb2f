"""Where a classifier looks: Grad-CAM (Selvaraju et al., 2017) on the last feature map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from classkinfy_export.errors import CheckpointError
from classkinfy_export.stages.classify import Classify


def grad_cam(classify: Classify, clean: Tensor, index: int) -> Tensor:
    """Return how much each place speaks for a class.

    Channels of the last feature map are weighed by the mean gradient of the class's logit, and only
    what speaks for the class is kept.

    Args:
        classify: the stage; its backbone is timm's.
        clean: uint8 [1, h, w, 3].
        index: of the class.

    Returns:
        float32 [h, w], 0..1, the strongest place 1; all 0 where nothing speaks for the class.

    Raises:
        CheckpointError: the architecture has no feature map of channels first.
    """
    network = classify.network
    backbone: Any = network.backbone
    with torch.no_grad():
        levels = classify.resized(clean)
        features = backbone.forward_features(levels * network.scale + network.shift)
    if features.ndim != 4 or features.shape[1] != backbone.num_features:
        raise CheckpointError(
            f"{network.spec.architecture} has no feature map with channels first: Grad-CAM cannot "
            "show where it looks"
        )
    with torch.enable_grad():
        features.requires_grad_(True)
        pooled = backbone.forward_head(features, pre_logits=True)
        logit = network.head(pooled)[0, index]
        (gradient,) = torch.autograd.grad(logit, features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = F.relu((weights * features.detach()).sum(dim=1, keepdim=True))
    heat = F.interpolate(heat, clean.shape[1:3], mode="bilinear", align_corners=False)[0, 0]
    return heat / torch.clamp(heat.max(), min=torch.finfo(heat.dtype).tiny)
