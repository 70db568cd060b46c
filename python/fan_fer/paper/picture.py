"""The paper's table as points with intervals, beside learning curves."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fan_fer.output.colors import BLUE, FAINT, GAP, INK, ORANGE, TRACK_COLORS
from fan_fer.output.figure import HEAD, save_figure, style_axes
from fan_fer.output.fonts import shorten
from fan_fer.training.result import EPOCHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fan_fer.paper.table import Table


COLORS = {"fan": ORANGE, "self": BLUE, "score-fusion": FAINT}
OTHERS = TRACK_COLORS[2:]  # of other poolings, in turn
NAME, LABEL = 19, 30  # characters that fit beside the points, in a line, and in the legend of two columns


def plot_table(table: Table) -> Figure:
    """Left: accuracy and mean recall of each variant with their intervals. Right: test accuracy over the epochs."""
    # In inches: the axes, what is below them, and all of it.
    body = max(2.6, 0.5 * len(table.variants))
    below = 1.1 + 0.2 * max(0, len(table.variants) / _columns(table) - 2)
    height = below + body + 0.9
    figure = Figure(figsize=(11, height), facecolor="white")
    FigureCanvasAgg(figure)
    points, curves = (figure.add_axes((left, below / height, 0.385, body / height)) for left in (0.135, 0.6))
    _draw_points(points, table)
    _draw_curves(curves, table)
    for axes, columns in ((points, 2), (curves, _columns(table))):
        handles, labels = axes.get_legend_handles_labels()
        order = slice(None, None, -1 if axes is curves else 1)
        place: dict[str, Any] = {"bbox_to_anchor": (0.5, -0.57 / body), "loc": "upper center"}
        axes.legend(handles[order], labels[order], **_LEGEND, ncols=columns, **place)
    figure.text(0.012, 1 - 0.3 / height, shorten(table.title, 90), **HEAD)
    figure.text(0.012, 1 - 0.57 / height, table.subtitle, fontsize=9, color=FAINT, va="center")
    return figure


def write_table_plot(path: Path, table: Table) -> None:
    """Writes :func:`plot_table`, whole or not at all. Raises OutputError."""
    save_figure(path, plot_table(table))


def _draw_points(axes: Axes, table: Table) -> None:
    series = (  # what, of which epoch, vertical offset, marker, filled
        ("accuracy", table.main, -0.24, "o", True),
        ("accuracy", "best", -0.08, "o", False),
        ("mean recall", table.main, 0.08, "D", True),
        ("mean recall", "best", 0.24, "D", False),
    )
    names = []
    for row, result in enumerate(table.variants):
        color = _color(table, result.variant)
        names.append(fill(shorten(result.title, 3 * NAME), NAME))
        for what, which, offset, marker, filled in series:
            scores = result.scores[which]
            if what == "accuracy":
                value, ends = scores.accuracy, tuple(scores.accuracy_interval)
            else:
                value, ends = scores.mean_recall, tuple(scores.mean_recall_interval or ())
            at = row + offset
            if ends:
                axes.plot([100 * end for end in ends], [at, at], color=color, lw=1.6, solid_capstyle="butt")
            face = color if filled else "white"
            axes.plot(100 * value, at, marker, ms=5.5, mfc=face, mec=color, mew=1.4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color=GAP, lw=1)
    axes.set_xlabel("% of the test clips, with 95 % intervals", color=INK, fontsize=9)
    for what, which, _, marker, filled in series:
        face = INK if filled else "white"
        axes.plot([], [], marker, ls="", ms=5.5, mfc=face, mec=INK, mew=1.2, label=f"{what}, {EPOCHS[which]}")
    style_axes(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_curves(axes: Axes, table: Table) -> None:
    for result in reversed(table.variants):  # FAN is drawn last, on top
        epochs, values = result.epochs, result.curves
        color = _color(table, result.variant)
        if len(values) > 1:
            axes.fill_between(epochs, 100 * values.min(0), 100 * values.max(0), color=color, alpha=0.18, lw=0)
        marker = "o" if len(epochs) == 1 else ""
        axes.plot(epochs, 100 * values.mean(0), color=color, lw=1.8, marker=marker, label=shorten(result.title, LABEL))
    axes.set_xlabel("epoch", color=INK, fontsize=9)
    axes.set_ylabel("accuracy on the test clips, %", color=INK, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    style_axes(axes)
    axes.grid(axis="y", color=GAP, lw=1)


def _columns(table: Table) -> int:
    """Of the learning curves' legend."""
    return 3 if max(len(result.title) for result in table.variants) <= NAME else 2


def _color(table: Table, variant: str) -> str:
    others = [result.variant for result in table.variants if result.variant not in COLORS]
    return COLORS.get(variant) or OTHERS[others.index(variant) % len(OTHERS)]


_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8.5,
    "handletextpad": 0.4,
    "columnspacing": 1.4,
    "borderaxespad": 0,
}
