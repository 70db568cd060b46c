"""Pictures of results: a confusion matrix, and the paper's table as points with intervals beside learning curves."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binned_statistic

from fan_fer.evaluation.metrics import BINS, Floats, Labels, Scores, calibration_error, wilson_interval
from fan_fer.output import atomic_write, check_picture
from fan_fer.plot import BLUE, FAINT, GAP, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fan_fer.evaluation.table import Table

COLORS = {"fan": ORANGE, "self": BLUE, "score-fusion": FAINT}
_BLUES = LinearSegmentedColormap.from_list("blues", ["white", BLUE])


def plot_confusion(scores: Scores, title: str) -> Figure:
    """Rows are the true classes: the share of a class's clips that was taken for each class, and how many."""
    count = len(scores.classes)
    cell = max(0.62, 5.0 / count)  # inches
    left, bottom, top = 1.35, 1.0, 0.9
    size = (left + count * cell + 0.3, bottom + count * cell + top)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / size[0], bottom / size[1], count * cell / size[0], count * cell / size[1]))

    members = scores.confusion.sum(axis=1, keepdims=True)
    shares = scores.confusion / np.maximum(members, 1)
    axes.imshow(shares, cmap=_BLUES, vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(count, count):
        clips = int(scores.confusion[row, column])
        if clips:
            color = "white" if shares[row, column] > 0.75 else INK
            weight = "bold" if row == column else "normal"
            share = f"{100 * shares[row, column]:.0f} %"
            axes.text(column, row - 0.1, share, ha="center", va="center", color=color, fontsize=10, fontweight=weight)
            axes.text(column, row + 0.23, str(clips), ha="center", va="center", color=color, fontsize=7.5)
    axes.set_xticks(range(count), scores.classes, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), scores.classes)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GAP, lw=1.2)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("taken for", color=FAINT, fontsize=9)
    axes.set_ylabel("true class", color=FAINT, fontsize=9)

    edge, lines = 0.15 / size[0], (1 - 0.34 / size[1], 1 - 0.62 / size[1])
    width = int(7.8 * size[0])
    figure.text(edge, lines[0], textwrap.shorten(title, width, placeholder=" ..."), **_HEAD)
    figure.text(edge, lines[1], _subtitle(scores), fontsize=9, color=FAINT, va="center")
    return figure


def write_confusion(path: Path, scores: Scores, title: str) -> None:
    """Writes :func:`plot_confusion`, whole or not at all. Raises OutputError."""
    _save(path, plot_confusion(scores, title))


def plot_reliability(labels: Labels, probabilities: Floats, title: str) -> Figure:
    """How often the most probable class is right, by how probable it was: true classes (n,), probabilities (n, C).

    Below: how many clips were that sure. Raises ValueError where the shapes do not fit each other.
    """
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    counts, mean = (
        binned_statistic(confidence, values, kind, edges).statistic
        for values, kind in ((confidence, "count"), (right, "mean"))
    )
    figure = Figure(figsize=(5.2, 5.4), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.13, 0.33, 0.82, 0.5))
    below = figure.add_axes((0.13, 0.11, 0.82, 0.16), sharex=axes)
    centres, width = (edges[:-1] + edges[1:]) / 2, 1 / BINS
    for k in np.flatnonzero(counts):
        low, high = wilson_interval(round(mean[k] * counts[k]), int(counts[k]))
        axes.bar(centres[k], mean[k], 0.92 * width, color=BLUE, alpha=0.75)
        axes.plot([centres[k]] * 2, [low, high], color=INK, lw=1.2)
    axes.plot([0, 1], [0, 1], color=ORANGE, lw=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("right, with 95 % interval", color=INK, fontsize=9)
    below.bar(centres, counts, 0.92 * width, color=FAINT)
    below.set_xlabel("probability of the most probable class", color=INK, fontsize=9)
    below.set_ylabel("how many", color=INK, fontsize=9)
    for part in (axes, below):
        _style(part)
    error = calibration_error(labels, probabilities)
    figure.text(0.03, 0.945, textwrap.shorten(title, 48, placeholder=" ..."), **_HEAD)
    figure.text(0.03, 0.885, f"calibration error {error:.3f}; on the line it would be 0", fontsize=9, color=FAINT)
    return figure


def write_reliability(path: Path, labels: Labels, probabilities: Floats, title: str) -> None:
    """Writes :func:`plot_reliability`, whole or not at all. Raises OutputError."""
    _save(path, plot_reliability(labels, probabilities, title))


def plot_table(table: Table) -> Figure:
    """Left: accuracy and mean recall of each variant with their intervals. Right: test accuracy over the epochs."""
    figure = Figure(figsize=(11, 4.6), facecolor="white")
    FigureCanvasAgg(figure)
    points = figure.add_axes((0.135, 0.245, 0.385, 0.56))
    curves = figure.add_axes((0.6, 0.245, 0.385, 0.56))
    _draw_points(points, table)
    _draw_curves(curves, table)
    figure.text(0.012, 0.935, textwrap.shorten(table.title, 90, placeholder=" ..."), **_HEAD)
    figure.text(0.012, 0.875, table.subtitle, fontsize=9, color=FAINT, va="center")
    return figure


def write_table_plot(path: Path, table: Table) -> None:
    """Writes :func:`plot_table`, whole or not at all. Raises OutputError."""
    _save(path, plot_table(table))


_HEAD: dict[str, Any] = {"fontsize": 13, "fontweight": "bold", "color": INK, "va": "center", "parse_math": False}


def _subtitle(scores: Scores) -> str:
    low, high = scores.accuracy_interval
    seeds = len(scores.accuracy_of_seeds)
    clips = f"{scores.clips} clips" + (f", {seeds} seeds added up" if seeds > 1 else "")
    accuracy = f"accuracy {100 * scores.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"{accuracy}, mean recall {100 * scores.mean_recall:.1f} %; {clips}"


def _draw_points(axes: Axes, table: Table) -> None:
    series = (  # what, vertical offset, marker, filled
        ("accuracy, last epoch", -0.24, "o", True),
        ("accuracy, best epoch", -0.08, "o", False),
        ("mean recall, last epoch", 0.08, "D", True),
        ("mean recall, best epoch", 0.24, "D", False),
    )
    names = []
    for row, result in enumerate(table.variants):
        color = COLORS[result.variant]
        names.append(result.title)
        for label, offset, marker, filled in series:
            scores = result.last if "last" in label else result.best
            if label.startswith("accuracy"):
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
    handles = [
        axes.plot([], [], marker, ls="", ms=5.5, mfc=INK if filled else "white", mec=INK, mew=1.2, label=label)[0]
        for label, _, marker, filled in series
    ]
    axes.legend(handles=handles, **_LEGEND, ncols=2, bbox_to_anchor=(0.5, -0.22), loc="upper center")
    _style(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_curves(axes: Axes, table: Table) -> None:
    for result in reversed(table.variants):  # FAN is drawn last, on top
        epochs, values = result.epochs, result.curves
        color = COLORS[result.variant]
        if len(values) > 1:
            axes.fill_between(epochs, 100 * values.min(0), 100 * values.max(0), color=color, alpha=0.18, lw=0)
        marker = "o" if len(epochs) == 1 else ""
        axes.plot(epochs, 100 * values.mean(0), color=color, lw=1.8, marker=marker, label=result.title)
    axes.set_xlabel("epoch", color=INK, fontsize=9)
    axes.set_ylabel("accuracy on the test clips, %", color=INK, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], **_LEGEND, ncols=3, bbox_to_anchor=(0.5, -0.22), loc="upper center")
    _style(axes)
    axes.grid(axis="y", color=GAP, lw=1)


_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8.5,
    "handletextpad": 0.4,
    "columnspacing": 1.4,
    "borderaxespad": 0,
}


def _style(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _save(path: Path, figure: Figure) -> None:
    check_picture(path)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)
