"""Times that increase, whatever the stamps."""

from __future__ import annotations

import numpy as np
import pytest

from fan_fer.video.decoding import Video
from fan_fer.video.times import HELD, increasing

from .made import video, with_steps


def times(stamps: list[float | None], step: float = 1.0) -> list[float]:
    given = list(increasing(((stamp, number) for number, stamp in enumerate(stamps)), step))
    assert [number for _, number in given] == list(range(len(stamps)))
    seconds = [time for time, _ in given]
    assert np.all(np.diff(seconds) > 0)
    return seconds


EVEN = [float(number) for number in range(60)]


@pytest.mark.parametrize("step", [0.001, 1.0, 40.0])
@pytest.mark.parametrize(
    "stamps",
    [
        EVEN,
        [0.0, 0.7, 2.1, 2.9, 4.0],
        [0.0, 1.0, 2.0, 500.0, 501.0, 502.0],  # a pause
        [0.0, 1.0, 2.0, 500.0],
        [0.0, 0.5, 700.0],
        [5.0],
        [],
    ],
)
def test_good_stamps_are_kept(stamps: list[float | None], step: float) -> None:
    assert times(stamps, step) == stamps


@pytest.mark.parametrize(
    "bad",
    [
        {7: 6.0},  # twice
        {7: 3.0},  # falls
        {7: None},
        {20: None, 21: None, 22: 4.0},
        {7: 1000.0},  # far ahead, and back
        {7: 6.0, 30: None, 50: 49.0},
        {59: None},
        {58: 57.0, 59: 57.0},
        dict.fromkeys(range(10, 10 + HELD - 1)),
    ],
)
def test_a_bad_stamp_changes_no_other(bad: dict[int, float | None]) -> None:
    assert times([bad.get(number, stamp) for number, stamp in enumerate(EVEN)]) == pytest.approx(EVEN)


def test_without_stamps_the_step_is_that_of_the_file() -> None:
    assert times([None] * 100, 0.04) == pytest.approx(np.arange(100) * 0.04)
    assert times([3.0] * 100, 0.04) == pytest.approx(3 + np.arange(100) * 0.04)


@pytest.mark.parametrize("first", [0.0, 1.0, 5.0, 30.0])
def test_stamps_that_begin_late_leave_room_for_those_before(first: float) -> None:
    stamps = [None] * 5 + [first + number for number in range(20)]
    assert np.diff(times(stamps)) == pytest.approx(np.ones(24))
    assert times(stamps)[0] == max(0.0, first - 5)


@pytest.mark.parametrize("second", [3, 20, 100])
def test_recordings_that_were_joined_go_on(second: int) -> None:
    assert times([*EVEN, *map(float, range(second))]) == pytest.approx(range(60 + second))


def test_joined_recordings_keep_their_differences() -> None:
    steps = [0.5, 2.0, 2.5] * 4
    assert np.diff(times([*EVEN, 0.0, *np.cumsum(steps)]))[60:] == pytest.approx(steps)


def test_a_repeated_stamp_in_a_file_of_low_rate_shifts_nothing() -> None:
    steps = [400] * 60  # 32 a second
    steps[30], steps[31], steps[50] = 800, 0, 18 * 12800
    clip = Video(with_steps(video(images=60, options={"bf": "0"}), steps))
    assert clip.fps < 4  # because of the pause
    expected = np.cumsum([0, *steps[:-1]])
    expected[32] += 200
    assert [frame.time for frame in clip] == pytest.approx(expected / 12800)


def test_any_stamps_give_times_that_increase() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        stamps: list[float | None] = np.cumsum(rng.choice([1.0, 1.0, 1.0, 0.0, 40.0], rng.integers(1, 120))).tolist()
        for place in rng.integers(0, len(stamps), rng.integers(0, 40)):
            stamps[place] = rng.choice([None, 0.0, 7.0, 1e6])
        for place in rng.integers(0, len(stamps), rng.integers(0, 2)):
            stamps = stamps[:place] + stamps
        given = times(stamps)
        assert given[0] >= 0
        assert np.isfinite(given).all()
