"""Pictures of results: what the cells and points show, and that every size makes a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.transforms import Bbox

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import OutputError
from fan_fer.evaluation.metrics import Scores, score
from fan_fer.evaluation.pictures import FEWEST, plot_confusion, plot_coverage, write_confusion, write_coverage
from fan_fer.output.colors import BLUE, ORANGE
from fan_fer.paper.picture import plot_table, write_table_plot
from fan_fer.paper.table import TITLES, Table, VariantResult

from ..fakes import names


def scores(*confused: tuple[int, int], classes: int = 3) -> Scores:
    """Of clips given as true class and class that it is taken for."""
    labels, predicted = np.array(confused).T
    return score([f"class {k}" for k in range(classes)], labels, np.eye(classes)[predicted][None])


def table(variants: tuple[str, ...], clips: int = 30, seeds: int = 2, epochs: int = 5) -> Table:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, clips)

    def result(variant: str) -> VariantResult:
        probabilities = {which: rng.dirichlet(np.ones(7), (seeds, clips)) for which in ("last", "best")}
        curves = rng.random((seeds, epochs))
        return VariantResult(
            variant, EMOTIONS, tuple("c" * clips), labels,
            subjects=None,
            probabilities=probabilities,
            numbers={"last": (epochs,), "best": (1,)},
            epochs=np.arange(1, epochs + 1),
            curves=curves,
            areas=None,
        )  # fmt: skip

    return Table("a $set$ of_clips", "afew", "fast", seeds, 1, clips, 0, tuple(map(result, variants)), variants[0])


def test_cells_show_shares_of_the_row_and_clips() -> None:
    figure = plot_confusion(scores((0, 0), (0, 0), (0, 0), (0, 1), (1, 1)), "title")
    texts = {(text.get_position()[0], round(text.get_position()[1])): [] for text in figure.axes[0].texts}
    for text in figure.axes[0].texts:
        texts[text.get_position()[0], round(text.get_position()[1])].append(text.get_text())
    # (column, row); empty cells, and the row of the class without clips, stay white
    assert texts == {(0, 0): ["75 %", "3"], (1, 0): ["25 %", "1"], (1, 1): ["100 %", "1"]}
    image = figure.axes[0].images[0].get_array()
    assert image.tolist() == [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]]
    assert any("accuracy 80.0 %" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("classes", [2, 7, 20])
def test_every_number_of_classes_makes_a_picture(tmp_path: Path, classes: int) -> None:
    found = scores(*[(k, (k * k) % classes) for k in range(classes)], classes=classes)
    write_confusion(tmp_path / "c.png", found, "a $dollar$ name_with_^odd_signs " * 8)
    assert cv2.imread(str(tmp_path / "c.png")).shape[0] > 500
    assert names(tmp_path) == ["c.png"]


def test_points_and_intervals_are_the_scores() -> None:
    made = table(("self", "fan"))
    points, curves = plot_table(made).axes
    lines = [line for line in points.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 1.5]
    fan = made.variants[1]
    assert len(lines) == 8  # two variants, two scores, two epochs
    assert lines[4].get_xdata() == pytest.approx([100 * end for end in fan.scores["last"].accuracy_interval])
    assert to_hex(lines[4].get_color()) == ORANGE
    assert to_hex(lines[0].get_color()) == BLUE
    (orange,) = [line for line in curves.lines if to_hex(line.get_color()) == ORANGE]
    np.testing.assert_allclose(orange.get_ydata(), 100 * fan.curves.mean(0))


@pytest.mark.parametrize(
    ("variants", "clips", "seeds", "epochs"), [(("fan",), 1, 1, 1), (("score-fusion", "fan"), 5, 3, 2)]
)
def test_every_table_makes_a_picture(
    tmp_path: Path, variants: tuple[str, ...], clips: int, seeds: int, epochs: int
) -> None:
    write_table_plot(tmp_path / "t.png", table(variants, clips, seeds, epochs))
    assert cv2.imread(str(tmp_path / "t.png")).shape[1] > 1500


@pytest.mark.parametrize(
    "variants",
    [
        ("score-fusion", "self", "fan"),
        ("mean", "abmil"),
        ("fan", "mean", "top-k", "softmax"),
        ("score-fusion", "self", "fan", "mean", "max", "softmax", "abmil", "top-k", "gru"),
        ("fan", "words"),
        ("fan", "word", "words", "mean"),
    ],
)
def test_every_name_is_within_the_picture_and_apart_from_the_others(
    monkeypatch: pytest.MonkeyPatch, variants: tuple[str, ...]
) -> None:
    monkeypatch.setitem(TITLES, "words", "a pooling of our own with a title that goes on and on over several lines")
    monkeypatch.setitem(TITLES, "word", "Pooling" * 9)
    figure = plot_table(table(variants))
    figure.draw_without_rendering()
    page = figure.bbox
    texts = [*figure.texts, *figure.axes[0].get_yticklabels()]
    for axes in figure.axes:
        texts += [axes.xaxis.label, *axes.get_legend().get_texts()]
    boxes = {text: text.get_window_extent() for text in texts}
    for text, box in boxes.items():
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()
    shown = [(text.get_text(), box) for text, box in boxes.items()]
    for place, (name, box) in enumerate(shown):
        for other, another in shown[:place]:
            assert not Bbox.intersection(box.padded(-1), another.padded(-1)), (name, other)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in one of .png"):
        write_confusion(tmp_path / "c.txt", scores((0, 0)), "title")
    assert names(tmp_path) == []


def test_coverage_is_the_share_of_right_ones_among_the_surest(tmp_path: Path) -> None:
    sure = np.linspace(0.99, 0.6, 100)
    probabilities, labels = np.stack([sure, 1 - sure], 1), np.arange(100) % 4 == 3  # every fourth is wrong
    sets = {"faces": (labels.astype(np.int64), probabilities), "clips": (np.zeros(40, np.int64), probabilities[:40])}
    figure = plot_coverage(sets)
    faces, *dots = [line for line in figure.axes[0].lines if line.get_color() == BLUE]
    share, right = faces.get_data()
    np.testing.assert_allclose(share, np.arange(FEWEST, 101) / 100)
    np.testing.assert_allclose(right, [(~labels[:count]).mean() for count in range(FEWEST, 101)])
    assert [float(dot.get_xdata()[0]) for dot in dots] == [(sure >= p).mean() for p in (0.5, 0.7, 0.9)]
    names_told = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names_told == ["faces, 100", "clips, 40"]
    figure.canvas.draw()
    below = figure.axes[0].get_legend().get_window_extent()
    assert not Bbox.intersection(below, figure.axes[0].get_window_extent().shrunk(0.98, 0.98))
    write_coverage(tmp_path / "coverage.png", sets)
    assert cv2.imread(str(tmp_path / "coverage.png")) is not None
