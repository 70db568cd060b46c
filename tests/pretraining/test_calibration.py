"""One temperature makes confidence mean what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from fan_fer.attention.network import VARIANTS, FrameAttentionNetwork
from fan_fer.evaluation.metrics import calibration_error
from pretraining.calibration import divide_logits, fit_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_logits_were_made_with_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20_000, 7))
    labels = (softmax(honest, axis=1).cumsum(1) < rng.random((len(honest), 1))).sum(1)
    logits = temperature * honest
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)
    assert calibration_error(labels, softmax(logits / fit_temperature(logits, labels), axis=1)) < 0.02
    if temperature != 1:
        assert calibration_error(labels, softmax(logits, axis=1)) > 0.05


@pytest.mark.parametrize("variant", VARIANTS)
def test_divided_logits_of_single_faces(variant: str) -> None:
    torch.manual_seed(0)
    network = FrameAttentionNetwork(variant).eval()
    faces = torch.randn(3, 1, 512)
    with torch.no_grad():
        expected = (network.classify(faces).logits / 0.5).softmax(-1)
        divide_logits(network, 0.5)
        torch.testing.assert_close(network.classify(faces).logits.softmax(-1), expected)
