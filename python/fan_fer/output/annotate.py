"""The video of a prediction with the readings drawn on it."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import OutputError, VideoError, one_line
from fan_fer.base.files import atomic_write, is_same
from fan_fer.base.opencv import cv2
from fan_fer.output.colors import rgb, track_color
from fan_fer.prediction import NOT_SURE, ClipPrediction, FramePrediction
from fan_fer.video.ahead import ahead
from fan_fer.video.decoding import Video
from fan_fer.video.encoding import Mp4Writer
from fan_fer.video.frame import FALLBACK_FPS, Progress
from fan_fer.video.sources import open_clip

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

FONT = cv2.FONT_HERSHEY_SIMPLEX
DARK, LIGHT = (24, 27, 31), (255, 255, 255)
LISTED = 6  # people whose emotion stands in the corner


def check_video(path: Path) -> None:
    """Raises OutputError for a name that is not an MP4 file's."""
    if path.suffix.lower() != ".mp4":
        raise OutputError(f"{path}: the name of an annotated video ends in .mp4")


def annotate_video(
    prediction: ClipPrediction | Sequence[ClipPrediction],
    out: str | os.PathLike[str],
    progress: Progress | None = None,
) -> None:
    """Writes the prediction's video as MP4 (H.264, sound kept), with what was read drawn on every frame.

    Each face has a box, the emotion of the frame on its own with its probability, and a bar: how much the frame
    weighs, full for the heaviest of the clip, with a mark where all frames would weigh the same. The emotion of the
    clip, and of the segment, stands in the corner. People have their tracks' numbers and colours.

    prediction: of ``Recognizer.predict``, or all of ``Recognizer.predict_faces``.
    progress: called after every frame with "annotate", the frames done and how many there are.
    Raises ValueError for a prediction without a video, VideoError where that cannot be read any more, OutputError
    where ``out`` cannot be written or is the video itself.
    """
    people = [prediction] if isinstance(prediction, ClipPrediction) else list(prediction)
    if not people or people[0].video is None:
        raise ValueError("prediction: has no video; one of Recognizer.predict or predict_faces is wanted")
    path = Path(out)
    check_video(path)
    video = open_clip(people[0].video)
    source = video.path if isinstance(video, Video) else None
    if source is not None and is_same(path, source):
        raise OutputError(f"{path}: is the clip itself; another name is wanted")
    heaviest = [max(frame.weight or 0.0 for frame in person.frames) for person in people]
    frames = ahead(video)
    first = next(frames, None)
    if first is None:
        raise VideoError(f"{video.name}: no frame of this video can be decoded")
    size = first.image.shape[1], first.image.shape[0]
    fps = video.fps or FALLBACK_FPS
    try:
        with atomic_write(path) as temporary, Mp4Writer(temporary, size, fps, source) as writer:
            for frame in itertools.chain([first], frames):
                for person, most in zip(people, heaviest, strict=True):
                    if frame.index < len(person.frames):
                        draw_face(frame.image, person, person.frames[frame.index], most)
                draw_summary(frame.image, people, frame.index)
                writer.write(frame.image, frame.time)
                if progress is not None:
                    progress("annotate", frame.index + 1, people[0].frames_total)
    except av.FFmpegError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


def draw_face(image: Image, person: ClipPrediction, frame: FramePrediction, heaviest: float) -> None:
    """Box, emotion and weight of a person's face, where the frame shows it. heaviest: the weight of a full bar."""
    if frame.box is None or frame.weight is None or frame.confidence is None:
        return
    unit, color = _unit(image), rgb(track_color(person.track))
    x, y, width, height = frame.box
    left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
    cv2.rectangle(image, (left, top), (right, bottom), color, 2 * unit)
    number = "" if person.track is None else f"{person.track}  "
    label = one_line(f"{number}{frame.emotion or NOT_SURE} {frame.confidence:.0%}")
    across, down = _text_size(label, unit)
    above = top - down if top >= down else top
    _draw_label(image, label, (min(max(left - unit, 0), max(image.shape[1] - across, 0)), max(above, 0)), color, unit)

    # The bar hangs below the box, or stands inside it where the picture ends.
    high = 8 * unit
    bar = min(bottom + 2 * unit, image.shape[0] - high)
    cv2.rectangle(image, (left, bar), (right, bar + high), DARK, cv2.FILLED)
    filled = round((right - left - 2 * unit) * frame.weight / heaviest)
    cv2.rectangle(image, (left + unit, bar + unit), (left + unit + filled, bar + high - unit), color, cv2.FILLED)
    equal = left + unit + round((right - left - 2 * unit) / person.frames_with_face / heaviest)
    cv2.line(image, (equal, bar), (equal, bar + high), LIGHT, unit)


def draw_summary(image: Image, people: Sequence[ClipPrediction], at: int, what: str = "clip") -> None:
    """The emotion of the whole clip, or of ``what`` they are a prediction of; a line per person, upper left.

    Where it has several segments, also of the one that holds frame ``at``.
    """
    unit, y = _unit(image), 0
    for person in people[:LISTED]:
        number = "" if person.track is None else f"{person.track}  "
        label = one_line(f"{number}{what}: {person.label or NOT_SURE} {person.confidence:.0%}{_told_now(person, at)}")
        y += _draw_label(image, label, (0, y), DARK if person.track is None else rgb(track_color(person.track)), unit)


def _told_now(person: ClipPrediction, at: int) -> str:
    now = [part for part in person.segments if part.first <= at <= part.last and len(person.segments) > 1]
    return "".join(f", now: {part.label or NOT_SURE} {part.confidence:.0%}" for part in now)


def _draw_label(image: Image, text: str, corner: tuple[int, int], color: Color, unit: int) -> int:
    """Text on a ground of ``color``, its upper left corner at ``corner`` (x, y). Returns its height in pixels."""
    across, down = _text_size(text, unit)
    (x, y), pad = corner, 4 * unit
    cv2.rectangle(image, (x, y), (x + across, y + down), color, cv2.FILLED)
    if _opencv_has(text):
        cv2.putText(image, text, (x + pad, y + down - pad - unit), FONT, 0.5 * unit, LIGHT, unit, cv2.LINE_AA)
    else:
        ground = image[y + pad :, x + pad :]
        share = _own_drawing(text, unit)[: ground.shape[0], : ground.shape[1], None] / 255
        ground = ground[: share.shape[0], : share.shape[1]]
        ground[:] = (1 - share) * ground + share * LIGHT
    return down


def _text_size(text: str, unit: int) -> tuple[int, int]:
    """Width and height in pixels of a label with this text."""
    if _opencv_has(text):
        (across, down), _ = cv2.getTextSize(text, FONT, 0.5 * unit, unit)
    else:
        down, across = _own_drawing(text, unit).shape
    return int(across) + 8 * unit, int(down) + 9 * unit


def _own_drawing(text: str, unit: int) -> NDArray[np.uint8]:
    from fan_fer.output.fonts import draw_text  # matplotlib, for names that need it

    return draw_text(text, 11 * unit)


@lru_cache(1024)
def _opencv_has(text: str) -> bool:
    """Whether OpenCV writes all of a text, and from left to right. For what it lacks it has question marks."""

    def drawn(part: str) -> bytes:
        image = np.zeros((48, 128), np.uint8)
        cv2.putText(image, part, (8, 36), FONT, 1.0, 255)
        return image.tobytes()

    lacking = {drawn("?" * count) for count in range(5)}  # one for the character, or for each of its bytes
    other = {char for char in text if not char.isascii()}
    return not any(unicodedata.bidirectional(char) in ("R", "AL") or drawn(char) in lacking for char in other)


def _unit(image: Image) -> int:
    """Pixels of a thin line: one for each 400 pixels of the picture's shorter side."""
    return max(1, round(int(min(image.shape[:2])) / 400))
