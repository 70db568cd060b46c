"""Makes the network's confidence mean what it says, by one temperature (Guo et al., ICML 2017)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fan_fer.attention.network import FrameAttentionNetwork

LOWEST, HIGHEST = 0.1, 10.0


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature under which the logits (n, C), divided by it, make the true classes (n,) most likely."""

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(labels)), labels].mean())

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def divide_logits(network: FrameAttentionNetwork, temperature: float) -> None:
    """From now on the network's logits are what they were, divided by ``temperature``."""
    with torch.no_grad():
        network.classifier.weight.div_(temperature)
        network.classifier.bias.div_(temperature)
