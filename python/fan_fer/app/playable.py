"""A copy of a clip that every browser plays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import FanFerError, VideoError, first_line
from fan_fer.base.files import atomic_write, exists
from fan_fer.base.opencv import cv2
from fan_fer.base.workers import Lost, Report, run_tasks
from fan_fer.video.decoding import Video
from fan_fer.video.encoding import Mp4Writer

PLAYABLE = "playable.mp4"
LONGEST_SIDE = 960  # pixels


def playable_copy(path: Path, folder: Path, workers: int) -> Path:
    """Writes the copy into the folder where it is not there yet; what is written, in a process of its own.

    workers: 0: in this process. Raises FanFerError.
    """
    target = folder / PLAYABLE
    if not exists(target):
        for _, error in run_tasks(_begin, [(path, target)], workers):
            if error:
                why = error.why if isinstance(error, Lost) else error
                raise FanFerError(f"no playable copy could be made: {why}")
    return target


def _begin() -> Callable[[tuple[Path, Path], Report], str]:
    return _copy


def _copy(task: tuple[Path, Path], report: Report) -> str:
    """The error, or nothing."""
    try:
        write_playable(*task, report)
    except FanFerError as error:
        return first_line(error)
    return ""


def write_playable(path: Path, target: Path, report: Report | None = None) -> None:
    """An MP4 copy of the clip, for browsers that cannot play or seek in the original. Raises FanFerError."""
    video = Video(path)
    first = _shrunk(video.read([0])[0])
    try:
        with (
            atomic_write(target) as temporary,
            Mp4Writer(temporary, (first.shape[1], first.shape[0]), video.fps, path) as writer,
        ):
            for frame in video:
                writer.write(_shrunk(frame.image), frame.time)
                if report:
                    report(frame.index)
    except av.FFmpegError as error:
        raise VideoError(f"no playable copy could be written ({first_line(error)})") from None


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most LONGEST_SIDE pixels long."""
    scale = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    size = (round(scale * image.shape[1]), round(scale * image.shape[0]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
