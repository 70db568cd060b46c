"""Opening a user's file, whatever its name: each failure one line."""

from __future__ import annotations

from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any

import av

from fan_fer.base.errors import VideoError
from fan_fer.base.files import exists, is_file
from fan_fer.base.files import open_file as open_any

POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in place of a file begins with
# Tags that are not UTF-8 are no error: from PyAV 19 on they never are, and it no longer takes the argument.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if hasattr(av.container.Container, "metadata_errors") else {}


def open_file(path: Path) -> BufferedReader:
    """Opens a file to read its bytes. Raises VideoError."""
    try:
        return open_any(path)
    except FileNotFoundError:
        raise VideoError(f"{path}: no such file") from None
    except PermissionError:
        raise VideoError(f"{path}: no permission to read it") from None
    except OSError as error:
        if exists(path) and not is_file(path):
            raise VideoError(f"{path}: not a file; a video, or a folder with videos in it, is wanted") from None
        raise VideoError(f"{path}: cannot be opened ({error.strerror})") from None


def read_bytes(path: Path, size: int = -1) -> bytes:
    """What a file begins with, or all of it. Raises VideoError."""
    with open_file(path) as file:
        try:
            return file.read(size)
        except OSError as error:
            raise VideoError(f"{path}: cannot be read ({error.strerror})") from None


def check_pointer(start: bytes, shown: str) -> None:
    """Raises VideoError where a file that begins like that was not fetched yet."""
    if start.startswith(POINTER):
        raise VideoError(f"{shown}: is a pointer of Git LFS; `git lfs pull` fetches what it stands for")


class Readable:
    """A file as FFmpeg reads it. A damaged one may send it to places that cannot be, and PyAV prints what is raised."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file

    def seek(self, place: int, whence: int = 0) -> int:
        try:
            return self._file.seek(place, whence)
        except (OSError, ValueError):
            return -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_container(source: Any, timeout: tuple[float, float] | None = None) -> Any:
    """Opens an address or a Readable with PyAV. timeout: seconds to open and to read. Raises FFmpegError, OSError."""
    return av.open(source, timeout=timeout, **ANY_TAGS)
