"""The figure of a prediction: a film strip of the faces, the weights of the frames, and what each frame shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import MaxNLocator

from fan_fer.base.errors import one_line
from fan_fer.faces.align import align_face
from fan_fer.output.colors import BLUE, FAINT, GAP, INK, ORANGE, class_colors, rgb
from fan_fer.output.figure import (
    FACE_SIZE,
    LEFT,
    RIGHT,
    STRIP,
    check_picture,
    frame_edges,
    frame_positions,
    headline,
    runs,
    save_figure,
    strip_frames,
)
from fan_fer.output.fonts import shorten
from fan_fer.prediction import NOT_SURE, ClipPrediction, FramePrediction
from fan_fer.video.frame import Progress, read_frames, reporting
from fan_fer.video.sources import open_clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


SLOTS = 6  # a shorter strip is centred and not blown up
MARKED = 3  # faces that carry their rank
BARS = 48  # more frames than this are drawn as an outline, because bars would be thinner than a line
ALPHA_LABEL, FINAL_LABEL, EQUAL_LABEL = "self-attention weights alone", "final weights", "equal shares"
WEIGHTS, SEGMENTS, READINGS = 0.35, 0.311, 0.155  # of its height: where these parts begin


def plot_prediction(prediction: ClipPrediction, faces: Mapping[int, NDArray[np.uint8]]) -> Figure:
    """The figure; ``faces`` maps frame indices to RGB crops, at least those of :func:`strip_frames`.

    Film strip, weights, and below them the segments, where there are several, and the probabilities of each frame as a
    clip of its own.

    Blue: the self-attention weights alone, divided by their sum so that both series share a scale. Orange: the final
    weights. Without relation-attention both would be the same, and only orange is drawn. Frames without a face are
    shaded.
    """
    figure = Figure(figsize=(11, 6.6), facecolor="white")
    FigureCanvasAgg(figure)
    strip = strip_frames(prediction)
    marks = _marks(prediction, strip)

    slots = max(len(strip), SLOTS)
    slot = (RIGHT - LEFT) / slots
    width, height = figure.get_size_inches()
    side = 0.94 * min(slot, 0.105)
    bottom = 0.875 - side * width / height
    bars = figure.add_axes((LEFT, WEIGHTS, RIGHT - LEFT, bottom - WEIGHTS - 0.105))
    _draw_weights(bars, prediction, marks)

    for place, index in enumerate(strip):
        centre = (LEFT + RIGHT) / 2 + (place + 0.5 - len(strip) / 2) * slot
        face = figure.add_axes((centre - side / 2, bottom, side, side * width / height))
        if index is None:
            _draw_gap(face)
        else:
            _draw_face(face, faces[index], prediction.frames[index], marks.get(index))
            _tie(figure, face, bars, frame_positions(prediction)[index], ORANGE if index in marks else FAINT)
    _draw_readings(figure.add_axes((LEFT, READINGS, RIGHT - LEFT, 0.11), sharex=bars), prediction)
    if len(prediction.segments) > 1:
        _draw_segments(figure.add_axes((LEFT, SEGMENTS, RIGHT - LEFT, 0.026), sharex=bars), prediction)
    _draw_title(figure, prediction)
    return figure


def write_plot(path: Path, prediction: ClipPrediction, faces: Mapping[int, NDArray[np.uint8]]) -> None:
    """Writes the figure in the format of the suffix, whole or not at all. Raises OutputError."""
    check_picture(path)
    save_figure(path, plot_prediction(prediction, faces))


def video_faces(
    prediction: ClipPrediction, indices: Iterable[int | None], progress: Progress | None = None
) -> dict[int, NDArray[np.uint8]]:
    """Crops of these frames' faces, decoded again from the prediction's video. Raises VideoError."""
    if prediction.video is None:
        raise ValueError("prediction: has no video; give the faces themselves")
    landmarks = {index: prediction.frames[index].landmarks for index in indices if index is not None}
    frames = reporting(open_clip(prediction.video), "plot", len(prediction.frames), progress)
    return {
        index: align_face(image, np.array(landmarks[index], np.float32), FACE_SIZE)
        for index, image in read_frames(frames, landmarks).items()
    }


def _marks(prediction: ClipPrediction, strip: Iterable[int | None]) -> dict[int, int]:
    """The heaviest faces of the strip and their ranks from 1; none where all frames weigh the same."""
    shown = {index: prediction.frames[index].weight or 0.0 for index in strip if index is not None}
    weights = [frame.weight for frame in prediction.frames if frame.weight is not None]
    if max(weights) <= 1.001 * min(weights):
        return {}
    return {index: rank for rank, index in enumerate(sorted(shown, key=lambda i: -shown[i])[:MARKED], start=1)}


def _draw_weights(axes: Axes, prediction: ClipPrediction, marks: Mapping[int, int]) -> None:
    x = frame_positions(prediction)
    edges = frame_edges(x, prediction.fps)
    final = np.array([np.nan if frame.weight is None else frame.weight for frame in prediction.frames])
    series = [(final, ORANGE, FINAL_LABEL)]
    if any(frame.beta is not None for frame in prediction.frames):
        alpha = np.array([np.nan if frame.alpha is None else frame.alpha for frame in prediction.frames])
        series.insert(0, (alpha / max(float(np.nansum(alpha)), 1e-30), BLUE, ALPHA_LABEL))
    height = np.nan_to_num([values for values, _, _ in series]).max(axis=0)

    for first, last in runs(np.isnan(final)):
        axes.axvspan(edges[first], edges[last + 1], color=GAP, lw=0, zorder=0)
    if len(x) <= BARS:
        width = 0.78 / len(series) * np.diff(edges)
        for place, (values, color, label) in enumerate(series):
            axes.bar(x + (place + 0.5 - len(series) / 2) * width, values, width, color=color, label=label)
    else:
        # Blue as a line in front of the filled orange: both can be read where they cross.
        for values, color, label in series:
            if color == ORANGE:
                axes.stairs(values, edges, fill=True, color=color, lw=0, label=label)
            else:
                axes.stairs(values, edges, baseline=None, color=color, lw=1.3, label=label, zorder=3)
    if prediction.frames_with_face > 1:
        share = 1 / prediction.frames_with_face
        axes.axhline(share, color=INK, lw=0.8, ls=(0, (4, 3)), alpha=0.6, zorder=4, label=EQUAL_LABEL)

    missing = max(SLOTS - len(x), 0) / 2 * (edges[-1] - edges[0]) / len(x)
    axes.set_xlim(edges[0] - missing, edges[-1] + missing)
    axes.set_ylim(0, 1.24 * height.max())
    for index, rank in marks.items():
        _badge(axes, rank, (x[index], height[index]), (0, 10))
    _style(axes, prediction, height.max())


def _draw_readings(axes: Axes, prediction: ClipPrediction) -> None:
    """Probabilities of the classes, piled up to 1, for each frame on its own."""
    edges = frame_edges(frame_positions(prediction), prediction.fps)
    lower = np.zeros(len(prediction.frames))
    colors = class_colors(prediction.probabilities)
    for name in prediction.probabilities:
        share = [np.nan if frame.probabilities is None else frame.probabilities[name] for frame in prediction.frames]
        upper = lower + np.array(share)
        axes.stairs(upper, edges, baseline=lower, fill=True, color=colors[name], lw=0, label=name)
        lower = upper
    for first, last in runs(np.isnan(lower)):
        axes.axvspan(edges[first], edges[last + 1], color=GAP, lw=0, zorder=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1], ["0", "100 %"])
    axes.set_ylabel("each frame\non its own", color=INK, fontsize=9)
    axes.yaxis.set_label_coords(-0.062, 0.5)
    axes.set_xlabel("frame" if prediction.fps is None else "time in seconds", color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(RIGHT + 0.01, 0.004),
        ncols=len(labels),
        frameon=False,
        fontsize=9,
        handlelength=1.0,
        columnspacing=1.4,
    )


def _draw_segments(axes: Axes, prediction: ClipPrediction) -> None:
    """A band in the colours of the segments' labels, which stand in it where there is room."""
    edges = frame_edges(frame_positions(prediction), prediction.fps)
    places = {frame.index: place for place, frame in enumerate(prediction.frames)}
    colors = class_colors(prediction.probabilities)
    for part in prediction.segments:
        left, right = edges[places[part.first]], edges[places[part.last] + 1]
        ground = colors.get(part.label or "", GAP)
        axes.axvspan(left, right, facecolor=ground, edgecolor="white", lw=1.2)
        room = axes.bbox.width * (right - left) / np.ptp(axes.get_xlim()) - 6
        for said in (f"{part.label or NOT_SURE} {part.confidence:.0%}", part.label or NOT_SURE):
            text = axes.text((left + right) / 2, 0.46, said, ha="center", va="center", fontsize=8.5)
            text.set_color("white" if sum(rgb(ground)) < 400 else INK)
            if text.get_window_extent().width <= room:
                break
            text.remove()
    axes.set(yticks=[], ylim=(0, 1))
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.text(-0.012, 0.46, "segments", transform=axes.transAxes, ha="right", va="center", fontsize=9, color=INK)


def _style(axes: Axes, prediction: ClipPrediction, top: float) -> None:
    if len(prediction.frames) <= STRIP:
        axes.set_xticks([(f.time if f.time is not None else f.index) for f in prediction.frames])
        axes.xaxis.set_major_formatter("{x:.0f}" if prediction.fps is None else "{x:.2f}")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=prediction.fps is None))
    axes.set_ylabel("share of the clip\n(each series sums to 100 %)", color=INK, fontsize=9)
    axes.yaxis.set_label_coords(-0.062, 0.5)
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0, 1.1 * top)
    axes.set_yticks([tick for tick in ticks if tick <= min(1.0, 1.2 * top)])
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.tick_params(colors=INK, labelsize=9)
    axes.tick_params(axis="x", labelbottom=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    order = [label for label in (ALPHA_LABEL, FINAL_LABEL, EQUAL_LABEL) if label in entries]
    axes.figure.legend(
        [entries[label] for label in order],
        order,
        loc="lower right",
        bbox_to_anchor=(RIGHT + 0.01, READINGS + 0.107),
        ncols=3,
        frameon=False,
        fontsize=9,
        handlelength=1.4,
    )


def _draw_face(axes: Axes, face: NDArray[np.uint8], frame: FramePrediction, rank: int | None) -> None:
    axes.imshow(face, aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(frame.emotion or NOT_SURE, fontsize=9, color=INK, labelpad=3)
    for spine in axes.spines.values():
        spine.set(visible=rank is not None, color=ORANGE, linewidth=2.5)
    if rank is not None:
        _badge(axes, rank, (0, 0), (8, -8))


def _draw_gap(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[], facecolor=GAP)
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, "no face", transform=axes.transAxes, ha="center", va="center", fontsize=9, color=FAINT)


def _badge(axes: Axes, rank: int, at: tuple[float, float], offset: tuple[float, float]) -> None:
    axes.annotate(
        str(rank),
        at,
        xytext=offset,
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8,
        fontweight="bold",
        color="white",
        bbox={"boxstyle": "circle,pad=0.25", "facecolor": ORANGE, "edgecolor": "white", "linewidth": 0.8},
        zorder=6,
    )


def _tie(figure: Figure, face: Axes, bars: Axes, position: float, color: str) -> None:
    """A line from a face to its place on the time axis."""
    line = ConnectionPatch(
        (0.5, -0.25), (position, 1.0), face.transAxes, bars.get_xaxis_transform(), color=color, lw=1.0
    )
    figure.add_artist(line)


def _draw_title(figure: Figure, prediction: ClipPrediction) -> None:
    title, rest = headline(prediction)
    figure.text(LEFT, 0.918, title, fontsize=21, fontweight="bold", color=INK)
    figure.text(RIGHT, 0.953, rest, ha="right", fontsize=10, color=INK)
    faces = f"{prediction.frames_with_face} of {prediction.frames_total} frames show a face"
    if prediction.video is not None:
        faces = shorten(one_line(Path(prediction.video).name), 60) + "  |  " + faces
    figure.text(RIGHT, 0.918, faces, ha="right", fontsize=9, color=FAINT)
