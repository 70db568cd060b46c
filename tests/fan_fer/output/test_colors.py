"""What is drawn can be told from what it is drawn on: 3 to 1, as WCAG 2 wants of graphics."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

import fan_fer
from fan_fer.output.colors import BLUE, INK, ORANGE, TRACK_COLORS, rgb
from fan_fer.output.plot import FINAL_LABEL, plot_prediction

from ..fakes import make_clip

CSS = (Path(fan_fer.__file__).parent / "app" / "static" / "app.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#\w+)", part)) for part in CSS.split("@media", 2)[:2])


def contrast(one: str, other: str) -> float:
    """By WCAG 2, from 1 to 21; colours as "#rrggbb" or "#rgb"."""

    def luminance(color: str) -> float:
        color = color if len(color) == 7 else "#" + "".join(2 * digit for digit in color[1:])
        parts = (part / 255 for part in rgb(color))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrasts_are_as_published() -> None:
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("color", [ORANGE, BLUE])
def test_series_are_seen_on_white(color: str) -> None:
    assert contrast(color, "#ffffff") >= 3


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_page(scheme: dict[str, str]) -> None:
    for name in ("orange", "blue", "action", "focus", "bar"):
        assert contrast(scheme[name], scheme["card"]) >= 3, name
    for ground in ("ground", "card"):
        for name in ("ink", "quiet"):
            assert contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
    assert contrast(scheme["action-ink"], scheme["action"]) >= 4.5
    assert contrast(scheme["bad"], scheme["bad-ground"]) >= 4.5


def test_many_frames_are_drawn_in_the_whole_colour() -> None:
    clip = make_clip(60)
    drawn = plot_prediction(clip, dict.fromkeys(range(60), np.zeros((8, 8, 3), np.uint8)))
    patches = [patch for axes in drawn.axes for patch in axes.patches]
    (final,) = [patch for patch in patches if patch.get_label() == FINAL_LABEL]
    assert to_hex(final.get_facecolor(), keep_alpha=True) == ORANGE + "ff"


def test_the_page_has_the_colours_of_the_plots() -> None:
    assert (LIGHT["orange"], LIGHT["blue"], LIGHT["ink"]) == (ORANGE, BLUE, INK)
    assert TRACK_COLORS[:2] == (ORANGE, BLUE)
