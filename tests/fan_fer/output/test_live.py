"""The panel of a terminal: what it says, in any width, and the strip of weights."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from fan_fer.base.emotions import EMOTIONS
from fan_fer.output.live import LivePanel, by_column
from fan_fer.prediction import FramePrediction
from fan_fer.video.frame import Frame

from ..fakes import make_clip

IMAGE = np.zeros((8, 8, 3), np.uint8)
BLOCKS = "▁▂▃▄▅▆▇█"


def panel(width: int, *missing: int, frames: int = 100) -> list[str]:
    """The lines of the panel after the last of so many frames, five seconds of which are looked back at."""
    out = Console(width=width, file=io.StringIO(), legacy_windows=False)
    prediction = make_clip(frames, missing=missing)
    with LivePanel("camera 0", EMOTIONS, 5.0, out) as shown:
        shown.show(Frame(frames - 1, (frames - 1) / 25, IMAGE), prediction)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 80, 40, 24])
def test_the_panel_fits_and_says_everything(width: int) -> None:
    lines = panel(width)
    assert {len(line) for line in lines} == {min(width, 88)}
    text = " ".join(line.strip("│ ") for line in lines)
    prediction = make_clip(100)
    for name, value in prediction.probabilities.items():
        assert f"{name:8} {value:6.1%}" in text
    assert f"{prediction.label}  {prediction.probabilities[prediction.label]:.0%}" in text
    for word in ("camera 0", "● face", "weights of the last", "frames/s", "ms late", "99 dropped"):
        assert word in text


@pytest.mark.parametrize("abstain", [None, 1])
def test_the_title_says_since_when(abstain: float | None) -> None:
    out = Console(width=80, file=io.StringIO(), legacy_windows=False)
    prediction = make_clip(100, borders=(75,)).abstaining(abstain)
    with LivePanel("camera 0", EMOTIONS, 5.0, out) as shown:
        shown.show(Frame(99, 99 / 25, IMAGE), prediction)
    title = out.file.getvalue().splitlines()[1]
    now = prediction.segments[1]
    assert f"({now.label or 'not sure'} {now.confidence:.0%} since 3.0 s)" in title
    assert title.startswith(f"│ {prediction.label or 'not sure'}  ")


def test_the_longest_bar_is_the_most_probable_class() -> None:
    bars = {line.split()[1]: line.count("█") for line in panel(80) if "%" in line and line.split()[1] in EMOTIONS}
    prediction = make_clip(100)
    del bars[prediction.label]
    assert len(bars) == len(EMOTIONS) - 1


def test_gaps_where_there_is_no_face() -> None:
    lower = panel(80, *range(20, 60))[-4]
    seen = [character in BLOCKS for character in lower[2:-2]]
    assert len(seen) == 76
    # Of five seconds the first has no frame; then a face for 0.8 s, none for 1.6 s, and a face until the end.
    assert not any(seen[:15])
    assert all(seen[16:27])
    assert not any(seen[29:51])
    assert all(seen[53:])


def test_before_a_face_is_seen() -> None:
    out = Console(width=60, file=io.StringIO())
    with LivePanel("[bold]clip.mp4", EMOTIONS, 2.5, out) as shown:
        shown.show(Frame(3, 0.1, IMAGE), None)
    text = out.file.getvalue()
    for words in ("[bold]clip.mp4", "no face to read", "○ no face", "Surprise", "weights of the last 2.5 s"):
        assert words in text
    with LivePanel("clip.mp4", EMOTIONS, 2.5, out):
        pass
    assert "waiting for a picture" in out.file.getvalue()


def test_each_column_shows_its_heaviest_frame() -> None:
    def frame(index: int, time: float, weight: float | None) -> FramePrediction:
        return FramePrediction(index, time, weight=weight)

    def columns(*frames: FramePrediction) -> list[int | None]:
        return [shown and shown.index for shown in by_column(frames, 4.0, 4)]

    whole = [frame(index, float(index), 0.25) for index in range(1, 5)]
    assert columns(*whole) == [1, 2, 3, 4]
    assert columns(frame(0, 0.1, 0.2), frame(1, 0.5, 0.5), frame(2, 0.9, None), frame(3, 3.95, 0.3)) == [1, 3, 3, 3]
    assert columns(frame(7, 100.0, 1.0)) == [None, None, None, 7]
