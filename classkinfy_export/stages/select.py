"""The severity of the diagnosis, of what all heads on the trunk say: no control flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Select(nn.Module):
    """``diagnosis`` and every head's severities to those of the diagnosed one; NaN of others.

    Args:
        routes: each head's class index.
        severities: how many there are.
    """

    def __init__(self, routes: tuple[int, ...], severities: int) -> None:
        super().__init__()
        self.routes = routes
        self.severities = severities

    def forward(self, diagnosis: Tensor, **given: Tensor) -> dict[str, Tensor]:
        """Run on int32 [1] and, in the order of the routes, float32 [1, severities] each."""
        severity = torch.zeros((1, self.severities))
        hits = torch.zeros_like(diagnosis)
        for route, own in zip(self.routes, given.values(), strict=True):
            hit = (diagnosis == route).to(torch.int32)
            severity = severity + own * hit.to(torch.float32)[:, None]
            hits = hits + hit
        return {"severity": torch.where(hits[:, None] > 0, severity, self.ungraded())}

    def ungraded(self) -> Tensor:
        """Return the severities of a diagnosis that nobody grades: float32 [1, severities]."""
        return torch.full((1, self.severities), float("nan"))
