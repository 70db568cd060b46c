"""Colours: of the figures, of the emotions, and those that tell people apart, the same in plots and videos."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

BLUE, ORANGE, INK, FAINT, GAP = "#3b75af", "#dc7414", "#22262b", "#8b929a", "#eceef0"
COLORS = {
    "Angry": "#c8452c", "Disgust": "#6f8f2f", "Fear": "#8a5aa6", "Happy": "#f2c14b", "Neutral": "#d3d6da",
    "Sad": "#2f5d8c", "Surprise": "#4fb6c6", "Contempt": "#9b6b43",
}  # fmt: skip
OTHERS = ("#e377c2", "#17202a", "#bcbd22", "#7f7f7f")  # classes of another name, in turn; then those left of the above
TRACK_COLORS = (ORANGE, BLUE, "#4f9d4f", "#c5393a", "#8d69b8", "#d9a800", "#46a8a8", "#d57bbd")


def class_colors(classes: Iterable[str]) -> dict[str, str]:
    """The colour of each class, "#rrggbb"."""
    names = list(classes)
    others = itertools.cycle([*OTHERS, *(color for name, color in COLORS.items() if name not in names)])
    return {name: COLORS.get(name) or next(others) for name in names}


def track_color(track: int | None) -> str:
    """The colour of a track's number, "#rrggbb"; the numbers from 9 on use them again."""
    return TRACK_COLORS[((track or 1) - 1) % len(TRACK_COLORS)]


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of "#rrggbb"."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
