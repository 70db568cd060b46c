"""Clips that show one emotion or two, and how well they are cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fan_fer.attention.network import FrameAttentionNetwork
from pretraining import segments
from pretraining.segments import HELD, RATE, SegmentMaker, measure


@pytest.fixture
def maker() -> SegmentMaker:
    """Five faces of each emotion: the first numbers say which, the next which face."""
    emotions = np.arange(35) % 7
    features = torch.zeros(35, 512)
    features[torch.arange(35), torch.from_numpy(emotions)] = 8
    features[:, 100] = torch.arange(35) / 1000
    return SegmentMaker(features, emotions)


@pytest.fixture
def network() -> FrameAttentionNetwork:
    network = FrameAttentionNetwork("self").eval()
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
        network.classifier.weight[:, :7] = torch.eye(7)
    return network


def test_clips_are_as_long_and_change_as_often_as_said(maker: SegmentMaker) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        single, double = maker.draw_single(number, rng), maker.draw_double(rng)
        assert single.emotions == (number % 7,)
        assert single.border == len(single.features)
        assert len(set(double.emotions)) == 2
        for made in (single, double):
            shown = made.features[:, :7].argmax(1).tolist()
            assert 4 * RATE <= len(shown) <= 10 * RATE
            assert shown == [made.emotions[0]] * made.border + [made.emotions[-1]] * (len(shown) - made.border)
        runs = [len(list(run)) for _, run in itertools.groupby(single.features[:, 100].tolist())]
        assert sum(run < HELD[0] for run in runs) <= 2  # cut where the two parts meet, and at the end


def test_a_network_that_knows_is_measured_right(maker: SegmentMaker, network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "CLIPS", 21)
    assert measure(network, maker, 0.75) == [1, 1, 1, 1]
    one, two, near, right = measure(network, maker, 100.0)
    assert (one, two) == (1, 0)
    assert np.isnan([near, right]).all()
