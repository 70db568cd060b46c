"""Fonts for names in any script: those of the system that have what matplotlib's own font lacks."""

from __future__ import annotations

import logging
import math
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from fan_fer.base.errors import FanFerWarning

EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC")
REGIONS = {"SC", "TC", "HK", "JP", "KR"}  # last words of the names of fonts that draw characters as these do
FANCY = {"Serif", "Mono", "Condensed", "Light", "UI"}  # words of the names of fonts that are taken last
CAPITAL = 0.73  # height of a capital letter, of the font's size
_told: set[str] = set()  # packages


def shorten(text: str, width: int) -> str:
    """In one line, cut to ``width`` columns; a wide character takes two."""
    line = " ".join(text.split())
    return line if cell_len(line) <= width else set_cell_size(line, width - 3).rstrip() + "..."


@contextmanager
def plain_text(texts: Iterable[Text]) -> Iterator[None]:
    """Has the texts drawn, while the block runs, as they are and by fonts that have their characters.

    Warns, once for each, with FanFerWarning where a package of fonts is missing.
    """
    texts = list(texts)
    families = find_families("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(families)
        text.set_parse_math(False)
        text.set_text(text.get_text().encode("utf-8", "replace").decode())  # the name of a file need not be text
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)  # not where a font has no bold
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+|Matplotlib currently does not support", UserWarning)
            yield
    finally:
        log.setLevel(level)


def find_families(text: str) -> list[str]:
    """The names of matplotlib's font and, after it, of as few of the system's as have the characters that it lacks."""
    families: list[str] = matplotlib.rcParams["font.family"]
    missing = _lacking(findfont(FontProperties()), frozenset(text))
    if not missing:
        return families
    found, lacking = _system_families(missing)
    packages = {char: _package(char) for char in sorted(lacking)}
    for package in set(packages.values()) - _told:
        _told.add(package)
        chars = "".join(char for char in packages if packages[char] == package)
        warnings.warn(
            f"no font on this computer has {chars[:8]}{'...' if len(chars) > 8 else ''}; one is wanted "
            f"(on Debian and Ubuntu: apt-get install {package})",
            FanFerWarning,
            stacklevel=2,
        )
    return [*families, *found]


@lru_cache(1024)
def draw_text(text: str, height: int) -> NDArray[np.uint8]:
    """How much of each pixel a line of text covers, (H, W), 0 to 255. height: of a capital letter, in pixels."""
    figure = Figure(dpi=72)
    canvas = FigureCanvasAgg(figure)
    drawn = figure.text(0, 0, text, fontsize=height / CAPITAL, va="bottom")
    with plain_text([drawn]):
        box = drawn.get_window_extent()
        figure.set_size_inches(math.ceil(box.width + 1) / 72, math.ceil(box.height + 1) / 72)
        figure.draw(canvas.get_renderer())  # type: ignore[no-untyped-call]
    return np.asarray(255 - np.asarray(canvas.buffer_rgba())[..., 0])  # type: ignore[no-untyped-call]


@lru_cache
def _system_families(missing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Families that have these characters, and those characters that none has."""
    for path in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        with suppress(Exception):  # fonts of pictures, and broken ones
            fontManager.addfont(path)  # installed since matplotlib made its list
    paths = {entry.name: entry.fname for entry in fontManager.ttflist if "Last Resort" not in entry.name}
    bold = {entry.name for entry in fontManager.ttflist if int(entry.weight) > 500}
    kinds = {unicodedata.name(char, "").partition(" ")[0] for char in missing}
    region = "KR" if "HANGUL" in kinds else "JP" if kinds & {"HIRAGANA", "KATAKANA"} else "SC"

    def rank(name: str) -> tuple[int, int, str]:
        words = set(name.split())
        faults = bool(words & REGIONS - {region}), bool(words & FANCY), name not in bold
        return -len(has[name] & lacking), sum(faults), name

    has = {name: missing - _lacking(path, missing) for name, path in paths.items()}
    families, lacking = [], missing
    while lacking and has[best := min(has, key=rank)] & lacking:
        families.append(best)
        lacking -= has[best]
    return families, lacking


def _lacking(path: str, chars: frozenset[str]) -> frozenset[str]:
    """Characters that the font has no picture of; those that have none, and marks on others, do not count."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # gone since, or broken
        return chars
    drawn = (char for char in chars if unicodedata.category(char)[0] not in "CMZ")
    return frozenset(char for char in drawn if not font.get_char_index(ord(char)))


def _package(char: str) -> str:
    """The package of Debian with fonts that have the character."""
    if unicodedata.name(char, "").startswith(EAST_ASIAN):
        return "fonts-noto-cjk"
    return "fonts-symbola" if unicodedata.category(char)[0] == "S" else "fonts-noto-core"
