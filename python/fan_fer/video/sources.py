"""Whatever a user calls a clip, opened."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fan_fer.base.errors import VideoError, one_line
from fan_fer.base.files import is_folder
from fan_fer.video.camera import Camera
from fan_fer.video.decoding import Video, is_address
from fan_fer.video.frame import Clip
from fan_fer.video.images import HEAD, Array, Images, Stream, moves
from fan_fer.video.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from fan_fer.video.paths import read_bytes

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".f4v", ".m4v", ".mov", ".mp4", ".qt"),
    *(".m1v", ".m2t", ".m2ts", ".m2v", ".mpe", ".mpeg", ".mpg", ".mts", ".ts", ".vob"),
    *(".asf", ".avi", ".divx", ".dv", ".flv", ".ivf", ".mkv", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb"),
    *(".264", ".265", ".h264", ".h265", ".hevc", ".mjpeg", ".mjpg", ".webm", ".wmv", ".y4m"),
    *(".apng", ".gif"),
)
MOVING = (".apng", ".avif", ".gif", ".png", ".webp")  # of pictures that may move
NAMED = 5  # files that are not taken

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
    """Files as given; for a folder, the videos in it and below, in the order of names.

    Of a folder that holds neither videos nor pictures, the folders of pictures below it, each of them a clip. A folder
    without either, and one that cannot be looked into, stays in the list, so that opening it tells the user.
    """
    videos: list[Path] = []
    for path in map(Path, paths):
        videos += (_videos_below(path) or _picture_folders(path)) if is_folder(path) else [path]
    return videos


def passed_over(folder: Path) -> list[str]:
    """Names of the files in a folder, and below, that :func:`list_videos` leaves out."""
    taken = {*list_videos([folder])}
    others = [
        file for file in visible_files(folder) if file not in taken and not (_is_picture(file) and file.parent in taken)
    ]
    return sorted(str(file.relative_to(folder)) for file in others)


def pick_videos(files: Sequence[Path]) -> list[Path]:
    """Which files of one folder are videos: their suffix tells, and of PNG, WebP and AVIF how they begin.

    Pictures that move are none beside pictures that do not: those are a clip, and these are about it.
    """
    certain = any(file.suffix.lower() in VIDEO_SUFFIXES and file.suffix.lower() not in MOVING for file in files)
    # Most folders without one hold the frames of a clip, of which the first is looked at.
    if not certain and any(file.suffix.lower() in IMAGE_SUFFIXES and not _is_video(file) for file in files):
        return []
    return [file for file in files if _is_video(file)]


def visible_files(folder: Path, unread: list[OSError] | None = None) -> Iterator[Path]:
    """The files in a folder and below, without .DS_Store and the like, and what a Mac's archives leave elsewhere.

    unread: gets the errors of folders that cannot be looked into.
    """
    for where, below, names in os.walk(folder, onerror=None if unread is None else unread.append):
        below[:] = [name for name in below if is_visible(name)]
        yield from (Path(where, name) for name in names if is_visible(name))


def is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def not_taken(names: Sequence[str]) -> str:
    """The line about files in a folder that are not read."""
    some = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} file{' was' if len(names) == 1 else 's were'} not taken: {one_line(some)}"


def _videos_below(folder: Path) -> list[Path]:
    folders: dict[Path, list[Path]] = {}
    unread: list[OSError] = []
    for file in visible_files(folder, unread):
        folders.setdefault(file.parent, []).append(file)
    videos = [video for files in folders.values() for video in pick_videos(files)]
    return sorted([*videos, *(Path(error.filename) for error in unread)])


def _picture_folders(folder: Path) -> list[Path]:
    folders = {file.parent for file in visible_files(folder) if _is_picture(file)}
    return sorted(folders) if folders and folder not in folders else [folder]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in MOVING or suffix not in IMAGE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        return moves(read_bytes(path, HEAD))
    except VideoError:
        return False


def _open_path(name: str) -> Clip:
    if is_address(name) or not is_folder(name):
        return Video(name)
    folder = Path(name)
    unread: list[OSError] = []
    files = [*visible_files(folder, unread)]
    if unread and not files:
        raise VideoError(f"{name}: cannot be looked into ({unread[0].strerror})")
    images = [file for file in files if file.parent == folder and _is_picture(file)]
    others = sorted(str(file.relative_to(folder)) for file in {*files} - {*images})
    if not images:
        held = f" ({not_taken(others)})" if others else ""
        raise VideoError(f"{name}: no image in this folder{held}; a video, or a folder of images, is wanted")
    images.sort(key=_natural)
    return Images(images, name, [f"{one_line(name)}: {not_taken(others)}"] if others else [])


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts 2 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
