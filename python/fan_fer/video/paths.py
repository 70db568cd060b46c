"""Opening a user's file, whatever its name: each failure one line."""

from __future__ import annotations

import stat
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any

from fan_fer.base.errors import VideoError


def one_line(name: str) -> str:
    """A name as a message shows it: without line breaks."""
    return "?".join(name.splitlines())


def open_file(path: Path) -> BufferedReader:
    """Opens a file to read its bytes. Raises VideoError."""
    shown = one_line(str(path))
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise VideoError(f"{shown}: not a file; a video, or a folder with videos in it, is wanted")
        return path.open("rb")
    except FileNotFoundError:
        raise VideoError(f"{shown}: no such file") from None
    except PermissionError:
        raise VideoError(f"{shown}: no permission to read it") from None
    except (OSError, ValueError) as error:  # names too long or with a zero byte, links in a circle
        raise VideoError(f"{shown}: cannot be opened ({getattr(error, 'strerror', None) or error})") from None


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
