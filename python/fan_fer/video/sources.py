"""Whatever a user calls a clip, opened."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fan_fer.base.errors import VideoError
from fan_fer.base.files import is_folder
from fan_fer.video.camera import Camera
from fan_fer.video.decoding import Video, is_address
from fan_fer.video.frame import Clip
from fan_fer.video.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from fan_fer.video.images import Array, Images, Stream

VIDEO_SUFFIXES = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv")

Source = Any
"""What ``open_clip`` takes."""


def open_clip(source: Source) -> Clip:
    """The clip that ``source`` is.

    source: a video or an image file, or a folder of images; an address such as "rtsp://..."; the number of a camera;
        the bytes of a file, or one that is open for reading them; a list of image files; an array (N, H, W, 3) or a
        list of images, uint8 RGB; an iterator of frames, images, or times with images; or a clip that is open already.
    Raises VideoError where it cannot be read, TypeError or ValueError where an argument is something else.
    """
    if isinstance(source, Clip):
        return source
    if isinstance(source, np.ndarray):
        return Array(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Video(bytes(source))
    if isinstance(source, io.IOBase):
        return Video(source.read())
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fsdecode(source))
    if isinstance(source, (int, np.integer)) and not isinstance(source, bool):
        return Camera(int(source))
    if isinstance(source, (list, tuple)):
        if not source:
            raise ValueError("clip: got nothing; wanted image files or images")
        if all(isinstance(item, (str, os.PathLike)) for item in source):
            return Images(source)
        return Stream(source)
    if isinstance(source, Iterable):
        return Stream(source)
    raise TypeError(f"clip: got {type(source).__name__}; wanted a file, a folder of images, an address, or images")


def list_videos(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as given; for a folder, the videos in it and below, known by their suffix, in the order of names.

    A folder without a video, and one that cannot be looked into, stays in the list, so that opening it tells the user.
    """
    videos: list[Path] = []
    for path in paths:
        videos += sorted(_videos_below(Path(path)) if is_folder(path) else ()) or [Path(path)]
    return videos


def _videos_below(path: Path) -> Iterator[Path]:
    unread: list[OSError] = []
    for folder, below, names in os.walk(path, onerror=unread.append):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield Path(folder, name)
    yield from (Path(error.filename) for error in unread)


def _open_path(name: str) -> Clip:
    if is_address(name) or not is_folder(name):
        return Video(name)
    try:
        files = [Path(name, file) for file in os.listdir(name) if not file.startswith(".")]  # noqa: PTH208
    except OSError as error:
        raise VideoError(f"{name}: cannot be looked into ({error.strerror})") from None
    files = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not is_folder(file)]
    if not files:
        raise VideoError(f"{name}: no image in this folder; a video, or a folder of images, is wanted")
    files.sort(key=_natural)
    return Images(files, name)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
