"""The colours that tell people apart, the same in plots and videos."""

from __future__ import annotations

TRACK_COLORS = ("#ef8636", "#3b75af", "#4f9d4f", "#c5393a", "#8d69b8", "#d9a800", "#46a8a8", "#d57bbd")


def track_color(track: int | None) -> str:
    """The colour of a track's number, "#rrggbb"; the numbers from 9 on use them again."""
    return TRACK_COLORS[((track or 1) - 1) % len(TRACK_COLORS)]


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of "#rrggbb"."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
