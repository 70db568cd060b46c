"""The Frechet distance against what it is known to be, and what its sample size does to it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from fan_fer.evaluation.frechet import FEWEST, Moments, emo_fid, frechet_distance

RNG = np.random.default_rng(0)


def clips(count: int, frames: int, size: int, spread: float = 1.0, shift: float = 0.0) -> list[np.ndarray]:
    return [(shift + spread * RNG.normal(size=(frames, size))).astype(np.float32) for _ in range(count)]


def distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    return frechet_distance(Moments.of(first), Moments.of(second))


def test_it_is_that_of_the_formula() -> None:
    mix = RNG.normal(size=(6, 6)).astype(np.float32)
    first, second = [rows @ mix for rows in clips(5, 40, 6)], clips(7, 30, 6, spread=1.7, shift=0.4)
    one, two = np.concatenate(first).astype(float), np.concatenate(second).astype(float)
    covariances = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(one.mean(0) - two.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_known_distances() -> None:
    size = 8
    base = clips(20, 50, size)
    assert distance(base, [rows + 3 for rows in base]) == pytest.approx(9 * size, rel=1e-5)
    # Three times as wide about the same mean: (3 - 1)^2 times the variance.
    mean = np.concatenate(base).mean(0)
    variance = np.concatenate(base).astype(float).var(0, ddof=1).sum()
    assert distance(base, [mean + 3 * (rows - mean) for rows in base]) == pytest.approx(4 * variance, rel=1e-5)


@pytest.mark.parametrize("frames", [1, 3, 200])
def test_a_set_is_at_no_distance_from_itself_whatever_its_rank(frames: int) -> None:
    base = clips(4, frames, 64)
    spread = float(np.concatenate(base).var(0).sum())
    assert distance(base, base) < 1e-9 * spread
    assert distance(base, [rows[::-1] for rows in reversed(base)]) < 1e-6 * spread


def test_few_frames_are_biased_upwards_and_the_floor_shows_it() -> None:
    few, many = (
        emo_fid(clips(12, frames, 32), [[one] for one in clips(12, frames, 32)], [0] * 12) for frames in (2, 200)
    )
    assert few.value > 20 * many.value
    for found in (few, many):
        assert found.floor == pytest.approx(found.halves, rel=0.25)
        assert found.floor > 1.3 * found.value
    assert (few.rank_deficient, many.rank_deficient) == (True, False)
    assert (few.real_frames, few.half_frames, few.real_clips, few.dimension) == (24, 12, 12, 32)


def test_what_a_generator_adds_is_above_the_floor() -> None:
    real = clips(12, 60, 16)
    found = emo_fid(real, [[rows + 2] for rows in real], [0] * 12)
    assert found.halves - found.floor == pytest.approx(4 * 16, rel=0.1)


def test_halves_have_as_many_of_each_kind() -> None:
    """Two kinds far apart: halves that are not even would be far apart, too."""
    real = clips(6, 40, 4) + clips(6, 40, 4, shift=100)
    found = emo_fid(real, [[one] for one in real], [0] * 6 + [1] * 6)
    assert found.floor < 1
    assert found.floor == pytest.approx(found.halves)


def test_fewer_clips_than_two_halves_have_none() -> None:
    some = clips(FEWEST - 1, 30, 4)
    assert emo_fid(some, [[one] for one in some], [0] * len(some)) is None
