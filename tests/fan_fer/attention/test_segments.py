"""Where the reading of a clip changes: the optimum, the limits, and a clip whose reading is known."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import fan_fer
from fan_fer import EMOTIONS, FrameAttentionNetwork
from fan_fer.attention.scoring import score_clip
from fan_fer.attention.segments import change_points, score_segments


def cost(values: np.ndarray, borders: list[int], penalty: float) -> float:
    parts = [values[first:last] for first, last in itertools.pairwise(borders)]
    return sum(((part - part.mean(0)) ** 2).sum() + penalty for part in parts)


def least_cost(values: np.ndarray, shortest: int, penalty: float) -> float:
    """Of all ways to cut, one row after the other."""
    best = {0: 0.0}
    for end in range(shortest, len(values) + 1):
        starts = [start for start in best if end - start >= shortest]
        best[end] = min(best[start] + cost(values[start:end], [0, end - start], penalty) for start in starts)
    return best[len(values)]


@pytest.mark.parametrize("seed", range(40))
def test_no_other_borders_are_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shortest, penalty = int(rng.integers(1, 8)), 3 * rng.random()
    values = np.repeat(np.eye(4)[rng.integers(0, 4, 12)], rng.integers(1, 12, 12), axis=0)
    values = 0.8 * values + 0.3 * rng.random(values.shape)
    found = change_points(values, shortest, penalty, len(values))
    assert min(np.diff(found)) >= min(shortest, len(values))
    if len(values) >= 2 * shortest:
        assert cost(values, found, penalty) == pytest.approx(least_cost(values, shortest, penalty), abs=1e-9)


@pytest.mark.parametrize("shortest", [25, 30, 64])
def test_borders_are_exact_to_the_row_though_sought_in_steps(shortest: int) -> None:
    lengths = [shortest + 5, shortest, 3 * shortest + 1, shortest + 11]
    values = np.repeat(np.eye(4), lengths, axis=0)
    assert change_points(values, shortest, 0.75 * shortest, 10_000) == [0, *np.cumsum(lengths)]


def test_what_passes_quickly_is_no_part() -> None:
    for rows, parts in ((9, 1), (18, 1), (25, 3), (40, 3)):
        values = np.eye(2)[np.repeat([0, 1, 0], [100, rows, 100])]
        assert len(change_points(values, 25, 0.75 * 25, 10_000)) == parts + 1, rows


def test_a_film_takes_time_in_proportion() -> None:
    """Steady noise, which nothing can be pruned of: the slowest there is."""
    values = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 60_000)
    spent = {}
    for count in (15_000, 60_000):
        begin = time.process_time()
        found = change_points(values[:count], 30, 22.5, 3_000)
        spent[count] = time.process_time() - begin
        assert max(np.diff(found)) < 3_010
    assert spent[60_000] < 8 * spent[15_000]  # 16 by the square


def two_emotions(rows: list[int]) -> tuple[FrameAttentionNetwork, torch.Tensor]:
    """A network that reads the first numbers of a frame's features, and frames that show one class after another."""
    torch.manual_seed(0)
    network = FrameAttentionNetwork("self").eval()
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.weight[:, : len(EMOTIONS)] = 6 * torch.eye(len(EMOTIONS))
        network.classifier.bias.zero_()
    features = torch.zeros(len(rows), network.feature_size)
    features[torch.arange(len(rows)), torch.tensor(rows)] = 1
    return network, features


def segments(rows: list[int], rate: float = 10, **options: float) -> list[tuple[int, int, int]]:
    """First row, end and class of each segment."""
    network, features = two_emotions(rows)
    found = score_segments(network, features, score_clip(network, features), rate, **options)
    for part in found:
        alone = score_clip(network, features[part.first : part.end])
        np.testing.assert_allclose(part.scores.probabilities, alone.probabilities, atol=1e-6)
        np.testing.assert_allclose(part.scores.weights, alone.weights, atol=1e-6)
    return [(part.first, part.end, int(part.scores.probabilities.argmax())) for part in found]


def test_segments_say_what_their_frames_say_alone() -> None:
    assert segments([5] * 30 + [3] * 45) == [(0, 30, 5), (30, 75, 3)]
    assert segments([5] * 30) == [(0, 30, 5)]
    assert segments([5]) == [(0, 1, 5)]
    assert segments([5] * 30 + [3] * 6 + [5] * 30) == [(0, 66, 5)]
    assert segments([5] * 30 + [3] * 6 + [5] * 30, shortest=0.5, rate=5) == [(0, 30, 5), (30, 36, 3), (36, 66, 5)]


def test_neighbours_that_say_the_same_are_one() -> None:
    """The frames change, but what each part shows as a whole does not."""
    rows = [5] * 90 + [5, 3, 5] * 30 + [3] * 60
    assert len(change_points(np.eye(7)[rows], 10, 7.5, 1_000)) == 4
    assert segments(rows) == [(0, 180, 5), (180, 240, 3)]


def test_she_cries_then_laughs(clips: Path) -> None:
    prediction = fan_fer.load_recognizer().predict(clips / "WolfgangLanger_Pexels.mp4")
    sad, happy = prediction.segments
    assert (sad.label, happy.label, prediction.label) == ("Sad", "Happy", "Happy")
    assert (sad.start, happy.last) == (0, 471)
    assert 8 < sad.end < happy.start < 10
    assert happy.first == sad.last + 1
    assert min(sad.confidence, happy.confidence) > 0.9
    for number in (0, 1):
        inside = [frame.segment_weight for frame in prediction.frames if frame.segment == number]
        assert math.fsum(inside) == pytest.approx(1, abs=1e-9)
    assert [frame.segment for frame in prediction.frames] == [0] * happy.first + [1] * (472 - happy.first)


def test_one_emotion_is_one_segment(clips: Path) -> None:
    (only,) = fan_fer.load_recognizer().predict(clips / "face_noface.mov").segments
    assert (only.label, only.first, only.last, only.frames_with_face) == ("Happy", 0, 71, 72)
