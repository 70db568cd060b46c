"""The figure of everyone in a clip: for each person the faces over time and the weights of the frames below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fan_fer.base.errors import one_line
from fan_fer.faces.align import align_face
from fan_fer.output.colors import FAINT, GAP, INK, track_color
from fan_fer.output.figure import (
    FACE_SIZE,
    LEFT,
    RIGHT,
    check_picture,
    frame_edges,
    frame_positions,
    headline,
    runs,
    save_figure,
    strip_frames,
)
from fan_fer.output.fonts import shorten
from fan_fer.prediction import NOT_SURE, ClipPrediction
from fan_fer.video.frame import Progress, reporting
from fan_fer.video.sources import open_clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

DRAWN = 8  # people at most, those with the largest faces
WIDTH, HEAD, ROW, FOOT = 11.0, 0.45, 1.95, 0.55  # inches: of the figure, of its head, of a person, of the time axis
TOLD = 3  # segments of a person at most; of more only how many they are
FACES, WEIGHTS = 0.74, 0.62  # inches: heights of the faces and of the weights below them

Faces = Mapping[int, "NDArray[np.uint8]"]


def plot_tracks(tracks: Sequence[ClipPrediction], faces: Sequence[Faces]) -> Figure:
    """The figure of the predictions of one video, as ``Recognizer.predict_faces`` gives them.

    faces: for each track its RGB crops by frame number, at least those of ``strip_frames``. They stand above their
    twelfth of the clip. The weights are filled in the track's colour; the dashed line is where all would
    be equal; frames without the face are shaded.
    """
    drawn = tracks[:DRAWN]
    height = HEAD + ROW * len(drawn) + FOOT
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    first: Axes | None = None
    for row, track in enumerate(drawn):
        top = height - HEAD - row * ROW
        ground = {"boxstyle": "round,pad=0.2", "facecolor": track_color(track.track), "edgecolor": "none"}
        number = figure.text(LEFT, (top - 0.17) / height, f" {track.track} ", color="white", va="center", bbox=ground)
        number.set(fontsize=11, fontweight="bold")
        title, rest = headline(track)
        figure.text(LEFT + 0.03, (top - 0.17) / height, title, fontsize=14, fontweight="bold", color=INK, va="center")
        counts = f"{track.frames_with_face} of {track.frames_total} frames"
        parts = _segments_told(track)
        rest = "   |   ".join(filter(None, [parts, rest, counts]))
        figure.text(RIGHT, (top - 0.17) / height, rest, ha="right", fontsize=9, color=FAINT, va="center")
        place = (LEFT, (top - ROW + 0.12) / height, RIGHT - LEFT, WEIGHTS / height)
        axes = figure.add_axes(place, sharex=first)
        first = first or axes
        _draw_weights(axes, track, last=row == len(drawn) - 1)
        _draw_strip(figure, track, faces[row], bottom=(top - 0.34 - FACES) / height)
    _draw_head(figure, tracks, 1 - 0.22 / height)
    return figure


def write_tracks_plot(path: Path, tracks: Sequence[ClipPrediction], faces: Sequence[Faces]) -> None:
    """Writes the figure in the format of the suffix, whole or not at all. Raises OutputError."""
    check_picture(path)
    save_figure(path, plot_tracks(tracks, faces))


def track_faces(
    tracks: Sequence[ClipPrediction], progress: Progress | None = None
) -> list[dict[int, NDArray[np.uint8]]]:
    """The crops that the figure shows, decoded again from the predictions' video. Raises VideoError."""
    if tracks[0].video is None:
        raise ValueError("tracks: have no video; give the faces themselves")
    wanted = [{index for index in strip_frames(track) if index is not None} for track in tracks[:DRAWN]]
    faces: list[dict[int, NDArray[np.uint8]]] = [{} for _ in wanted]
    last = max(index for indices in wanted for index in indices)
    for frame in reporting(open_clip(tracks[0].video), "plot", len(tracks[0].frames), progress):
        for track, indices, own in zip(tracks, wanted, faces, strict=False):
            if frame.index in indices:
                landmarks = np.array(track.frames[frame.index].landmarks, np.float32)
                own[frame.index] = align_face(frame.image, landmarks, FACE_SIZE)
        if frame.index == last:
            break
    return faces


def _draw_strip(figure: Figure, track: ClipPrediction, faces: Faces, bottom: float) -> None:
    strip = strip_frames(track)
    slot = (RIGHT - LEFT) / len(strip)
    width, height = figure.get_size_inches()
    for place, index in enumerate(strip):
        if index is None:
            continue
        centre = LEFT + (place + 0.5) * slot
        face = figure.add_axes((centre - FACES / width / 2, bottom, FACES / width, FACES / height))
        face.imshow(faces[index], aspect="auto", interpolation="antialiased")
        face.set(xticks=[], yticks=[])
        face.set_xlabel(track.frames[index].emotion or NOT_SURE, fontsize=8, color=INK, labelpad=2)
        face.spines[:].set(color=track_color(track.track), linewidth=1.5)


def _draw_weights(axes: Axes, track: ClipPrediction, last: bool) -> None:
    positions = frame_positions(track)
    edges = frame_edges(positions, track.fps)
    weights = np.array([np.nan if frame.weight is None else frame.weight for frame in track.frames])
    for begin, end in runs(np.isnan(weights)):
        axes.axvspan(edges[begin], edges[end + 1], color=GAP, lw=0, zorder=0)
    axes.stairs(weights, edges, fill=True, color=track_color(track.track), lw=0)
    axes.axhline(1 / track.frames_with_face, color=INK, lw=0.8, ls=(0, (4, 3)), alpha=0.6, zorder=4)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.12 * np.nanmax(weights))
    axes.yaxis.set_major_locator(MaxNLocator(2))
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.tick_params(colors=INK, labelsize=8, labelbottom=last)
    axes.set_ylabel("weight", color=INK, fontsize=8)
    axes.yaxis.set_label_coords(-0.062, 0.5)
    if last:
        axes.set_xlabel("time in seconds", color=INK, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _segments_told(track: ClipPrediction) -> str:
    """From when on the person shows what, where that changes."""
    parts = track.segments
    if len(parts) > TOLD:
        return f"{len(parts)} segments"
    return ", ".join(f"{part.label or NOT_SURE} from {part.start:.1f} s" for part in parts if len(parts) > 1)


def _draw_head(figure: Figure, tracks: Sequence[ClipPrediction], y: float) -> None:
    count = f"{len(tracks)} {'person' if len(tracks) == 1 else 'people'}"
    if len(tracks) > DRAWN:
        count += f", the {DRAWN} with the largest faces"
    if tracks[0].video is not None:
        count = shorten(one_line(Path(tracks[0].video).name), 60) + "  |  " + count
    figure.text(LEFT, y, count, fontsize=10, color=FAINT, va="center")
