"""Probabilities that mean what they say: a temperature, and a weight of the screen's answer.

One number divides the network's logits (Guo et al., 2017), and folds into its head's last layer:
the deployed graph does not know of it. The other is the power to which the screen's answer joins it
(``stages.classify.pooled``). Both are fitted as one, for either depends on the other.

They are fitted to Platt's targets ("Probabilistic outputs for support vector machines", 1999): of n
images and k classes the right one has (n + 1) / (n + k). Were it 1, a few images that are all right
would drive the temperature to nothing and every later mistake to certainty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import nn

from classkinfy_export.stages.classify import pooled

_SHARPEST, _FLATTEST = 0.1, 10.0
"""Temperatures."""


class Calibration(NamedTuple):
    """What makes probabilities of logits."""

    temperature: float
    """Divides the network's logits; 0.1 to 10."""
    screen_weight: float
    """Of the screen's answer, 0 to 1."""


def fit(
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    preliminary: npt.NDArray[np.float32],
) -> Calibration:
    """Return what gives the least negative log likelihood, which has one minimum.

    Args:
        logits: float32 [n, classes], of images that the network was not trained on.
        labels: int64 [n].
        preliminary: the screen's answers, float32 [n, classes].

    Returns:
        of no images, a temperature of 1 and no weight.
    """
    if len(labels) == 0:
        return Calibration(1.0, 0.0)
    number, classes = logits.shape
    targets = torch.from_numpy((number * np.eye(classes)[labels] + 1) / (number + classes))
    network = torch.from_numpy(np.asarray(logits, np.float64))
    screen = pooled(torch.zeros_like(network), torch.from_numpy(np.float64(preliminary)), 1.0)

    def loss(point: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        scales = torch.tensor(point, requires_grad=True)
        scaled = torch.log_softmax(scales[0] * network + scales[1] * screen, dim=1)
        value = -(targets * scaled).sum(dim=1).mean()
        (slope,) = torch.autograd.grad(value, scales)
        return value.item(), slope.numpy()

    bounds = ((1 / _FLATTEST, 1 / _SHARPEST), (0.0, 1.0))
    found = minimize(loss, (1.0, 0.0), jac=True, bounds=bounds, method="L-BFGS-B")
    return Calibration(float(1.0 / found.x[0]), float(found.x[1]))


def fold(head: nn.Sequential, temperature: float) -> None:
    """Divide the logits of a head by a temperature, in the weights of its last layer."""
    last = head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data /= temperature
    last.bias.data /= temperature
