"""Names in any script and with any sign: in pictures, in videos and on the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from rich.cells import cell_len
from rich.console import Console

from fan_fer.base.errors import FanFerWarning
from fan_fer.base.terminal import console
from fan_fer.cli.outcome import show_warnings
from fan_fer.evaluation.metrics import score
from fan_fer.evaluation.pictures import plot_confusion, plot_reliability
from fan_fer.output import fonts
from fan_fer.output.annotate import draw_face, draw_summary
from fan_fer.output.colors import class_colors
from fan_fer.output.figure import save_figure, strip_frames
from fan_fer.output.live import LivePanel
from fan_fer.output.plot import write_plot
from fan_fer.output.plot_people import write_tracks_plot
from fan_fer.output.terminal import batch_table, clip_report, tracks_table
from fan_fer.prediction import ClipPrediction, FramePrediction
from fan_fer.video.frame import Frame

from ..fakes import make_clip

CHINESE = ("高兴", "愤怒", "厌恶", "恐惧", "悲伤", "惊讶", "中性")
SIGNS = ("$x_1$", "$", "a_b^{", "\\frac", "[bold]", "[/x]", ":smile:")


def named(names: tuple[str, ...], video: str = "clip.mp4", frames: int = 13) -> ClipPrediction:
    """A prediction for these classes."""
    clip = make_clip(frames, video=video)
    new = dict(zip(clip.probabilities, names, strict=True))

    def rename(told: ClipPrediction | FramePrediction) -> dict[str, float]:
        return dict(zip(names, told.probabilities.values(), strict=True))

    told = (replace(frame, emotion=new[frame.emotion], probabilities=rename(frame)) for frame in clip.frames)
    return replace(clip, label=new[clip.label], probabilities=rename(clip), frames=tuple(told))


def faces_of(clip: ClipPrediction) -> dict[int, np.ndarray]:
    return {index: np.zeros((8, 8, 3), np.uint8) for index in strip_frames(clip) if index is not None}


def write_font(path: Path, chars: str) -> Path:
    """A font whose characters are all black squares."""
    pen = TTGlyphPen(None)
    for go, at in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 700)), (pen.lineTo, (700, 700)), (pen.lineTo, (700, 0))):
        go(at)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(char): "square" for char in chars})
    builder.setupGlyf({".notdef": square, "square": square})
    builder.setupHorizontalMetrics({".notdef": (800, 0), "square": (800, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fonts of the system beside those that come with matplotlib: none until a test adds one."""
    files: list[str] = []
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: files)
    monkeypatch.setattr(fonts, "_told", set())
    caches = (fonts._system_families, fonts.draw_text)
    for cached in caches:
        cached.cache_clear()
    yield files
    for cached in caches:
        cached.cache_clear()


def test_a_font_of_the_system_is_taken_though_it_is_new(tmp_path: Path, system: list[str]) -> None:
    system.append(str(write_font(tmp_path / "squares.ttf", "高兴")))
    figure = plot_confusion(score(("高兴", "Sad"), np.array([0, 1]), np.eye(2)[None]), "高兴 and Sad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(tmp_path / "c.png", figure)
        write_plot(tmp_path / "p.pdf", clip := named(("高", "兴", *"abcde")), faces_of(clip))
        drawn = fonts.draw_text("高", 20)
    assert {tuple(text.get_fontfamily()) for text in figure.findobj(Text)} == {("sans-serif", "Squares")}
    assert (drawn > 200).sum() == pytest.approx((700 / 1000 * 20 / fonts.CAPITAL) ** 2, rel=0.1)


def test_where_none_has_them_one_line_names_the_package(tmp_path: Path, system: list[str]) -> None:
    clip = named(CHINESE, "高兴.mp4")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_plot(tmp_path / "a.png", clip, faces_of(clip))
        write_tracks_plot(tmp_path / "b.png", [replace(clip, track=1)], [faces_of(clip)])
    assert [str(warning.message) for warning in told] == [
        "no font on this computer has 中伤兴厌怒性恐恶...; one is wanted "
        "(on Debian and Ubuntu: apt-get install fonts-noto-cjk)"
    ]
    assert (tmp_path / "b.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("うれしい", "fonts-noto-cjk"), ("행복", "fonts-noto-cjk"), ("खुश", "fonts-noto-core"),
        ("สุข", "fonts-noto-core"), ("🤢", "fonts-symbola"),
    ],
)  # fmt: skip
def test_each_script_has_its_package(system: list[str], name: str, package: str) -> None:
    with pytest.warns(FanFerWarning, match=rf"no font on this computer has .*; .* apt-get install {package}\)$"):
        fonts.find_families(name)


def test_what_matplotlib_s_own_font_has_needs_no_other(tmp_path: Path, system: list[str]) -> None:
    clip = named(("Überrascht", "Радость", "سعيد", "Χαρά", "☺", "e\u0301", "a\u200bb"), "/x/\x01\udcff.mp4", frames=7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plot(tmp_path / "p.png", clip, faces_of(clip))


def test_commands_warn_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    show_warnings()
    assert warnings.formatwarning("no font", FanFerWarning, "a.py", 1, "code") == "fan-fer: warning: no font\n"
    assert "a.py:1: UserWarning: other" in warnings.formatwarning("other", UserWarning, "a.py", 1)


def test_signs_are_no_formulas(tmp_path: Path) -> None:
    clip, rng = named(SIGNS, "/x/$\\frac_{$.mp4"), np.random.default_rng(0)
    labels, probabilities = np.arange(7), rng.dirichlet(np.ones(7), 7)
    write_plot(tmp_path / "p.png", clip, faces_of(clip))
    write_tracks_plot(tmp_path / "t.svg", [replace(clip, track=1)], [faces_of(clip)])
    save_figure(tmp_path / "c.png", plot_confusion(score(SIGNS, labels, probabilities[None]), "$\\frac_{$"))
    save_figure(tmp_path / "r.png", plot_reliability(labels, probabilities, "$\\frac_{$"))
    assert len(list(tmp_path.iterdir())) == 4


def test_long_names_keep_their_beginning() -> None:
    assert fonts.shorten("a  b\nc", 10) == "a b c"
    assert fonts.shorten("x" * 70, 60) == "x" * 57 + "..."
    assert fonts.shorten("高" * 40, 20) == "高" * 8 + "..."


def label_of(name: str) -> np.ndarray:
    """What is written over a face, as the share of white in each pixel."""
    clip = named((name, *"abcdef"))
    frame = replace(clip.frames[0], emotion=name, box=(40.0, 100.0, 80.0, 80.0))
    image = np.zeros((400, 400, 3), np.uint8)
    draw_face(image, clip, frame, 1.0)
    return image[60:98, 42:, 2].astype(int)


def test_videos_have_the_characters_too(tmp_path: Path, system: list[str]) -> None:
    unknown = label_of("?")
    system.append(str(write_font(tmp_path / "squares.ttf", "ह")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = label_of("ह")
        arabic = label_of("سعيد")
    assert (drawn > 240).sum() > 80, "a square of ten pixels"
    assert not np.array_equal(drawn, unknown)
    assert arabic.max() > 200
    image = np.zeros((400, 30, 3), np.uint8)  # narrower than its label
    draw_summary(image, [named(("ह", *"abcdef"))], 0)
    assert image.any()


def test_videos_warn_where_no_font_has_them(system: list[str]) -> None:
    with pytest.warns(FanFerWarning, match="no font on this computer has ह"):
        assert label_of("ह").max() > 200


def test_classes_of_any_names_differ_in_colour() -> None:
    assert len(set(class_colors(CHINESE).values())) == len(CHINESE)
    assert class_colors(("Happy", "高兴"))["Happy"] == "#f2c14b"


def test_names_on_the_terminal_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    for name in SIGNS:
        clip = replace(named(SIGNS, f"/x/{name}.mp4"), label=name, track=1)
        for report in (clip_report(clip, 1.0), batch_table([(clip, 1.0)]), tracks_table([([clip], 1.0)])):
            console().print(report)
            printed = capsys.readouterr().out
            assert f"/x/{name}.mp4" in printed
            assert name in printed.replace(f"/x/{name}.mp4", "")


def test_wide_names_do_not_shift_the_bars_of_the_panel() -> None:
    out = StringIO()
    names = ("高兴", "Sad", *"abcde")
    with LivePanel("clip", names, 5.0, Console(file=out, width=80, force_terminal=False)) as panel:
        panel.show(Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8)), named(names, frames=1))
    lines = [line for line in out.getvalue().splitlines() if "%" in line and "│" in line]
    assert {cell_len(line) for line in lines} == {80}
    assert {cell_len(line[: line.index("%")]) for line in lines[1:]} == {cell_len(lines[1][: lines[1].index("%")])}
