"""A comparison as points: what is recognised, how far it is from the real clips, and the Frechet distance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fan_fer.base.errors import one_line
from fan_fer.evaluation.comparison import Comparison, Estimate, Group
from fan_fer.output.colors import BLUE, GAP, INK
from fan_fer.output.figure import HEAD, save_figure, style_axes
from fan_fer.output.fonts import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.3  # inches
NAME = 24  # columns of a row's name
MOST = 40  # rows
LEGEND: dict[str, Any] = {
    "loc": "upper left",
    "frameon": False,
    "fontsize": 8.5,
    "handletextpad": 0.4,
    "borderaxespad": 0,
    "labelcolor": INK,
}


def plot_comparison(found: Comparison) -> Figure:
    """A row for all pairs, each generator, emotion and so on; of more than MOST the first."""
    rows: list[tuple[str, Group | None]] = []
    for by, groups in found.parts.items():
        if by:
            rows.append((by, None))
        rows += groups.items()
    left = len(rows) - MOST
    rows = rows[:MOST]
    body = max(1.2, ROW * len(rows))
    height = body + 2.05
    figure = Figure(figsize=(12, height), facecolor="white")
    FigureCanvasAgg(figure)
    places = [(0.16, 0.24), (0.425, 0.24), (0.69, 0.12), (0.845, 0.14)]
    axes = [figure.add_axes((left, 1.2 / height, width, body / height)) for left, width in places]
    _draw_shares(axes[0], rows)
    _draw_distance(axes[1], rows, "features", "cosine distance of the features")
    _draw_distance(axes[2], rows, "probabilities", "of the probabilities")
    _draw_fid(axes[3], rows)
    for place, one in enumerate(axes):
        _style(one, rows, place == 0)
        if place != 2 and one.get_legend_handles_labels()[0]:
            one.legend(bbox_to_anchor=(0, -0.55 / body), **LEGEND)
    about = found.about
    title = f"{Path(about['generated']).name or about['generated']} beside {Path(about['real']).name or about['real']}"
    figure.text(0.012, 1 - 0.3 / height, shorten(one_line(title), 90), **HEAD)
    counts = f"{len(found.rows)} pairs of {found.overall.real_clips} real clips; bars: 95 % intervals"
    for side, failed in found.failures.items():
        if failed:
            counts += f"; {len(failed)} {side} failed"
    if left > 0:
        counts += f"; {left} more rows are in the report"
    figure.text(0.012, 1 - 0.57 / height, counts, fontsize=9, color=INK, va="center")
    return figure


def write_comparison_plot(path: Path, found: Comparison) -> None:
    """Writes :func:`plot_comparison`, whole or not at all. Raises OutputError."""
    save_figure(path, plot_comparison(found))


def _draw_shares(axes: Axes, rows: Sequence[tuple[str, Group | None]]) -> None:
    series = (
        ("accuracy", "generated clips, right", -0.16, "o", BLUE, BLUE),
        ("agreement", "generated clips, as the real clip", 0.16, "D", BLUE, "white"),
        ("real_accuracy", "real clips, right: the ceiling", -0.16, "|", INK, INK),
    )
    for name, label, offset, marker, edge, face in series:
        _points(axes, rows, name, label, offset, marker, edge, face, 100, bars=name != "real_accuracy")
    axes.set_xlim(-2, 102)
    axes.set_xlabel("% of the pairs", color=INK, fontsize=9)


def _draw_distance(axes: Axes, rows: Sequence[tuple[str, Group | None]], name: str, label: str) -> None:
    _points(axes, rows, name, "from the real clip", 0, "o", BLUE, BLUE)
    _points(axes, rows, f"unrelated_{name}", "real clips from each other", 0, "|", INK, INK, bars=False)
    axes.set_xlim(left=-0.03 * axes.get_xlim()[1])
    axes.set_xlabel(label, color=INK, fontsize=9)


def _draw_fid(axes: Axes, rows: Sequence[tuple[str, Group | None]]) -> None:
    fids = [(at, group.emo_fid) for at, (_, group) in enumerate(rows) if group and group.emo_fid]
    if not fids:
        return axes.set_visible(False)
    axes.plot([fid.halves for _, fid in fids], [at for at, _ in fids], "o", ms=6, color=BLUE, label="generated, half")
    floors, places = [fid.floor for _, fid in fids], [at for at, _ in fids]
    axes.plot(floors, places, "|", ms=11, mew=2, color=INK, label="real halves: the floor")
    most = max([*(fid.halves for _, fid in fids), *floors]) or 1
    axes.set_xlim(-0.05 * most, 1.15 * most)
    axes.set_xlabel("emo-FID of halves", color=INK, fontsize=9)


def _points(
    axes: Axes,
    rows: Sequence[tuple[str, Group | None]],
    name: str,
    label: str,
    offset: float,
    marker: str,
    edge: str,
    face: str,
    scale: float = 1,
    bars: bool = True,
) -> None:
    """The estimates of that name, a point in the row of each group that has one; nothing where none has."""
    values: list[Estimate | None] = [getattr(group, name, None) for _, group in rows]
    if not any(values):
        return
    size = {"ms": 11, "mew": 2} if marker == "|" else {"ms": 6 if marker == "o" else 5, "mew": 1.3}
    axes.plot([], [], marker, ls="", color=edge, mfc=face, label=label, **size)
    for row, value in enumerate(values):
        if value is None:
            continue
        if bars and value.interval is not None:
            axes.plot([scale * end for end in value.interval], [row + offset] * 2, color=edge, lw=1.4)
        axes.plot(scale * value.value, row + offset, marker, color=edge, mfc=face, **size)


def _style(axes: Axes, rows: Sequence[tuple[str, Group | None]], first: bool) -> None:
    style_axes(axes)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [shorten(one_line(name), NAME) or "(empty)" for name, _ in rows] if first else [])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GAP, lw=1)
    for row, (_, group) in enumerate(rows):
        if group is None:
            axes.axhline(row - 0.5, color=GAP, lw=1)
            if first:
                axes.get_yticklabels()[row].set_fontstyle("italic")
