"""Temperature scaling (Guo et al., 2017): probabilities that mean what they say.

One number divides all logits, so no decision changes, and it folds into the head's last layer:
the deployed graph does not know of it.

It is fitted to Platt's targets ("Probabilistic outputs for support vector machines", 1999): of n
images and k classes the right one has (n + 1) / (n + k). Were it 1, a few images that are all right
would drive the temperature to nothing and every later mistake to certainty.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import nn

_WIDEST = math.log(10.0)


def temperature(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Return what logits are best divided by, for the least negative log likelihood.

    Args:
        logits: float32 [n, classes], of images that the network was not trained on.
        labels: int64 [n].

    Returns:
        between 0.1 and 10; 1 without images.
    """
    if len(labels) == 0:
        return 1.0
    number, classes = logits.shape
    targets = (number * np.eye(classes)[labels] + 1) / (number + classes)

    def loss(log: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / math.exp(log), axis=1)
        return float(-(targets * scaled).sum(axis=1).mean())

    return math.exp(float(minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x))


def fold(head: nn.Sequential, temperature: float) -> None:
    """Divide the logits of a head by a temperature, in the weights of its last layer."""
    last = head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data /= temperature
    last.bias.data /= temperature
