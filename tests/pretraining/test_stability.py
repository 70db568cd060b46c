"""Changes and flickers of the readings of a clip's frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pretraining.stability import changes, flickers, report

from ..fan_fer.fakes import make_clip


@pytest.mark.parametrize(
    ("readings", "changed", "flickered"),
    [
        ("ssssshhhhh", 1, 0),
        ("sssssfsssss", 2, 1),
        ("sssssfffsssss", 2, 1),
        ("sssssffffsssss", 2, 0),  # long enough to be an expression
        ("sssssfhhhhh", 2, 0),  # on the way from one to the other
        ("sssssfsfsssss", 4, 0),  # nothing settles between
        ("sssssfsssssfsssss", 4, 2),
        ("....s.....", 2, 0),  # no face, no flicker
    ],
)
def test_short_readings_between_longer_ones(readings: str, changed: int, flickered: int) -> None:
    emotions = [None if letter == "." else letter for letter in readings]
    assert changes(emotions) == changed
    assert flickers(emotions) == flickered


def test_the_report_counts_every_frame() -> None:
    clip = make_clip(30, missing=(3,))
    frames = [replace(frame, time=index / 10) for index, frame in enumerate(clip.frames)]
    text = report([replace(clip, frames=tuple(frames))])
    assert "| 29 of 30 |" in text
    assert "no face 1" in text
    for second in range(3):
        assert f"| {second} | " in text
