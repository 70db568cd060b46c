"""Pictures of results: a confusion matrix, and the paper's table as points with intervals beside learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from rich.cells import cell_len
from scipy.stats import binned_statistic

from fan_fer.evaluation.metrics import BINS, Floats, Labels, Scores, calibration_error, score_answered, wilson_interval
from fan_fer.output.colors import BLUE, FAINT, GAP, INK, ORANGE
from fan_fer.output.figure import HEAD, save_figure, style_axes
from fan_fer.output.fonts import shorten

LONGEST = 40  # columns of a class's name beside the cells
DOTS = (0.5, 0.7, 0.9)  # probabilities marked in a picture of coverage
FEWEST = 20  # clips whose share is drawn there
SERIES = (BLUE, "#d9701c", "#3d8b3d", INK)
_BLUES = LinearSegmentedColormap.from_list("blues", ["white", BLUE])


def plot_confusion(scores: Scores, title: str) -> Figure:
    """Rows are the true classes: the share of a class's clips that was taken for each class, and how many."""
    count = len(scores.classes)
    cell = max(0.62, 5.0 / count)  # inches
    names = [shorten(name, LONGEST) for name in scores.classes]
    longest = max(map(cell_len, names))
    left, bottom, top = max(1.35, 0.5 + 0.09 * longest), max(1.0, 0.5 + 0.055 * longest), 0.9
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
    axes.set_xticks(range(count), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GAP, lw=1.2)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("taken for", color=FAINT, fontsize=9)
    axes.set_ylabel("true class", color=FAINT, fontsize=9)

    edge, lines = 0.15 / size[0], (1 - 0.34 / size[1], 1 - 0.62 / size[1])
    width = int(7.8 * size[0])
    figure.text(edge, lines[0], shorten(title, width), **HEAD)
    figure.text(edge, lines[1], _subtitle(scores), fontsize=9, color=FAINT, va="center")
    return figure


def write_confusion(path: Path, scores: Scores, title: str) -> None:
    """Writes :func:`plot_confusion`, whole or not at all. Raises OutputError."""
    save_figure(path, plot_confusion(scores, title))


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
        style_axes(part)
    error = calibration_error(labels, probabilities)
    figure.text(0.03, 0.945, shorten(title, 40), **HEAD)
    figure.text(0.03, 0.885, f"calibration error {error:.3f}; on the line it would be 0", fontsize=9, color=FAINT)
    return figure


def write_reliability(path: Path, labels: Labels, probabilities: Floats, title: str) -> None:
    """Writes :func:`plot_reliability`, whole or not at all. Raises OutputError."""
    save_figure(path, plot_reliability(labels, probabilities, title))


def plot_coverage(sets: Mapping[str, tuple[Labels, Floats]]) -> Figure:
    """How often the most probable class is right among the surest of each set, from the surest few to all.

    sets: by their names true classes (n,) and probabilities (n, C). Dots: where a label is given from 0.5, 0.7 and 0.9
    on. Shares of fewer than 20 are not drawn.
    """
    figure = Figure(figsize=(6.4, 4.6), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.11, 0.12, 0.86, 0.6))
    for (name, (labels, probabilities)), color in zip(sets.items(), SERIES, strict=False):
        confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
        surest = right[np.argsort(-confidence, kind="stable")].cumsum() / np.arange(1, len(labels) + 1)
        share = np.arange(1, len(labels) + 1) / len(labels)
        axes.plot(share[FEWEST - 1 :], surest[FEWEST - 1 :], color=color, lw=1.8, label=f"{name}, {len(labels)}")
        for abstain in DOTS:
            answered = score_answered(labels, probabilities, abstain)
            if answered.accuracy is not None and answered.answered >= FEWEST:
                axes.plot(answered.answered / len(labels), answered.accuracy, "o", ms=5, color=color)
    axes.set_xlim(0, 1.01)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_xlabel("share that gets a label, the surest first", color=INK, fontsize=9)
    axes.set_ylabel("of these right", color=INK, fontsize=9)
    axes.grid(color=GAP, lw=1.0)
    style_axes(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.01), ncols=2, frameon=False, fontsize=9)
    figure.text(0.03, 0.955, "Accuracy over coverage", **HEAD)
    dots = ", ".join(f"{abstain:g}" for abstain in DOTS)
    figure.text(0.03, 0.89, f"dots, from the right: labels from {dots} on", fontsize=9, color=FAINT)
    return figure


def write_coverage(path: Path, sets: Mapping[str, tuple[Labels, Floats]]) -> None:
    """Writes :func:`plot_coverage`, whole or not at all. Raises OutputError."""
    save_figure(path, plot_coverage(sets))


def _subtitle(scores: Scores) -> str:
    low, high = scores.accuracy_interval
    seeds = len(scores.accuracy_of_seeds)
    clips = f"{scores.clips} clips" + (f", {seeds} seeds added up" if seeds > 1 else "")
    accuracy = f"accuracy {100 * scores.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"{accuracy}, mean recall {100 * scores.mean_recall:.1f} %; {clips}"
