"""Two clips beside each other in time."""

from __future__ import annotations

import numpy as np
import pytest

from fan_fer.evaluation.over_time import apart
from fan_fer.evaluation.readings import Reading


def reading(angles: list[float | None], fps: float = 25, start: float = 0.0) -> Reading:
    """Frames whose features are unit vectors at these angles; the probability is all of class 0 where that is 0."""
    count = len(angles)
    features, own = np.full((count, 2), np.nan, np.float32), np.full((count, 2), np.nan)
    for row, angle in enumerate(angles):
        if angle is not None:
            features[row] = np.cos(angle), np.sin(angle)
            own[row] = (1, 0) if angle == 0 else (0, 1)
    return Reading(start + np.arange(count) / fps, features, own, np.array([1.0, 0.0]))


def test_a_clip_is_at_no_distance_from_itself() -> None:
    clip = reading([0.1 * k for k in range(30)], fps=29.97)
    found = apart(clip, clip)
    assert (found.features, found.probabilities, found.points, found.compared) == (0, 0, 30, 30)


def test_known_distances() -> None:
    found = apart(reading([0.0] * 4), reading([0.0, 0.0, np.pi / 2, np.pi]))
    assert found.farthest == pytest.approx(2 / 25)
    assert found.features == pytest.approx((0 + 0 + 1 + 2) / 4, abs=1e-6)
    assert found.probabilities == pytest.approx(0.5)


def test_scale_of_the_features_does_not_matter() -> None:
    clip = reading([0.0, 1.0])
    other = Reading(clip.times, 7 * clip.features, clip.own, clip.probabilities)
    assert apart(clip, other).features == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rates", [(25, 50), (50, 25), (24, 30)])
def test_other_rates_are_aligned_by_time(rates: tuple[int, int]) -> None:
    """A turn at one second, seen at two rates, is at the same time in both."""
    clips = [reading([0.0] * rate + [1.0] * rate, fps=rate) for rate in rates]
    found = apart(*clips)
    assert found.points == pytest.approx(2 * min(rates), abs=1)
    assert found.step == pytest.approx(1 / min(rates))
    assert found.probabilities <= 1 / found.points + 1e-9


def test_the_common_part_counts_and_clips_start_together() -> None:
    long, short = reading([0.0] * 10 + [1.0] * 40), reading([0.0] * 10, start=7.0)
    found = apart(long, short)
    assert (found.points, found.probabilities) == (10, 0)
    assert (found.duration, found.generated_duration) == (pytest.approx(2), pytest.approx(0.4))


def test_frames_without_a_face_are_counted_and_left_out() -> None:
    found = apart(reading([0.0, None, 0.0, 0.0]), reading([0.0, 0.0, None, 1.0]))
    assert (found.points, found.compared, found.without_real, found.without_generated) == (4, 2, 1, 1)
    assert found.probabilities == pytest.approx(0.5)
    nothing = apart(reading([0.0, None]), reading([None, 0.0]))
    assert (nothing.compared, nothing.features, nothing.probabilities) == (0, None, None)


def test_clips_of_one_frame() -> None:
    one, many = reading([0.0]), reading([1.0, 0.0, 0.0])
    assert (apart(one, one).points, apart(one, one).features) == (1, 0)
    assert (apart(one, many).points, apart(one, many).probabilities) == (1, 1)
    assert (apart(many, one).points, apart(many, one).probabilities) == (1, 1)


def test_order_in_time_counts() -> None:
    angles = [0.1 * k for k in range(20)]
    assert apart(reading(angles), reading(angles[::-1])).features > 0.3
