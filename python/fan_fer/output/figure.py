"""What the figures share: their formats, style, film strip and time axis."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from fan_fer.base.errors import OutputError
from fan_fer.base.files import atomic_write
from fan_fer.output.colors import FAINT, INK
from fan_fer.output.fonts import plain_text
from fan_fer.prediction import NOT_SURE, ClipPrediction, FramePrediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

PICTURES = (".png", ".pdf", ".svg", ".jpg", ".webp")


def check_picture(path: Path) -> None:
    """Raises OutputError where the suffix does not name a format that plots are written in."""
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"{path}: the name of a plot ends in one of {' '.join(PICTURES)}")


STRIP = 12  # most faces in the strip


FACE_SIZE = 160  # pixels of a face in the strip


LEFT, RIGHT = 0.09, 0.985  # of the figure's width


def strip_frames(prediction: ClipPrediction) -> list[int | None]:
    """The frames of the film strip: the heaviest of each of twelve equal parts of the clip.

    A clip of at most twelve frames shows all of them. None stands for a part without a face.
    """
    parts = np.array_split(np.arange(len(prediction.frames)), min(STRIP, len(prediction.frames)))
    return [_heaviest(prediction.frames[index] for index in part) for part in parts]


def _heaviest(frames: Iterable[FramePrediction]) -> int | None:
    faces = [frame for frame in frames if frame.has_face]
    if not faces:
        return None
    middle = faces[len(faces) // 2].index  # of equal weights the one in the middle
    return max(faces, key=lambda frame: (frame.weight or 0.0, -abs(frame.index - middle))).index


def frame_positions(prediction: ClipPrediction) -> NDArray[np.float64]:
    """Where each frame stands on the axis: seconds, or its number where there is no video."""
    return np.array([frame.index if frame.time is None else frame.time for frame in prediction.frames], np.float64)


def frame_edges(positions: NDArray[np.float64], fps: float | None) -> NDArray[np.float64]:
    """The borders between the frames, halfway, and half a frame before the first and after the last."""
    step = np.median(np.diff(positions)) if len(positions) > 1 else 1 / (fps or 1.0)
    inner = (positions[1:] + positions[:-1]) / 2
    return np.concatenate([[positions[0] - step / 2], inner, [positions[-1] + step / 2]])


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    padded = np.concatenate([[False], flags, [False]]).astype(np.int8)
    starts, ends = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
    return [(int(start), int(end) - 1) for start, end in zip(starts, ends, strict=True)]


def headline(prediction: ClipPrediction) -> tuple[str, str]:
    """The label with its probability, and the most probable of the other classes; all of them where it is not sure."""
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    told = [f"{name} {value:.0%}" for name, value in ranked if value >= 0.005]
    if prediction.label is None:
        return NOT_SURE, " · ".join(told[:4])
    return told[0], " · ".join(told[1:4])


HEAD: dict[str, Any] = {"fontsize": 13, "fontweight": "bold", "color": INK, "va": "center"}


def style_axes(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def save_figure(path: Path, figure: Figure) -> None:
    """Writes it in the format of the suffix, whole or not at all. Raises OutputError."""
    check_picture(path)
    with atomic_write(path) as temporary, plain_text(figure.findobj(Text)):
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)
