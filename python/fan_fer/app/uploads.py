"""What is looked at before a clip is worked on: is there room for it, is it a video, and is it short enough."""

from __future__ import annotations

import errno
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from fan_fer.base.errors import FanFerError, VideoError
from fan_fer.video.decoding import Video

WANTED = "an mp4, mov, webm or avi file is wanted"
LONGEST_NAME = 120
SPARE = 256_000_000  # bytes of the disk that stay free, or a twentieth of a smaller disk, for results and for others


@dataclass(frozen=True)
class Limits:
    """The longest clip in minutes, the largest file in megabytes (10^6 bytes), and how many clips may wait."""

    minutes: float = 5.0
    megabytes: float = 500.0
    clips: int = 16

    @property
    def bytes(self) -> int:
        return int(self.megabytes * 1e6)


class TooLarge(VideoError):
    """A file or a clip beyond the limits."""


class TooSlow(FanFerError):
    """A file that takes too long to come."""


class DiskFull(FanFerError):
    """There is no room for the file of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: cannot be stored, the server's disk is full; nothing was kept, try again later")


def display_name(name: str) -> str:
    """A file's name as it is shown and written into results. It never becomes a path on this machine."""
    printable = "".join(character for character in name if character.isprintable())
    last = printable.replace("\\", "/").rsplit("/", 1)[-1].strip()
    return last[:LONGEST_NAME] or "clip"


def check_size(name: str, size: int, limits: Limits) -> None:
    """Raises TooLarge for a file of more bytes than are taken."""
    if size > limits.bytes:
        raise TooLarge(f"{name}: is larger than {limits.megabytes:g} MB; a shorter or smaller file is wanted")


def check_room(folder: Path, name: str, size: int) -> None:
    """Raises DiskFull where so many bytes more would leave too little of the disk that the folder is on."""
    disk = shutil.disk_usage(folder)
    if disk.free - size < min(SPARE, disk.total // 20):
        raise DiskFull(name)


def is_full(error: BaseException) -> bool:
    """Whether this error, or the one that it came of, says that the disk is full."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        found = found.__context__
    return False


def check_start(path: Path, name: str) -> None:
    """Raises VideoError for a file that does not begin as a video does.

    The container is known by its first bytes before FFmpeg sees it: playlists and other texts, in which FFmpeg would
    follow names of further files, do not get that far.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise VideoError(f"{name}: the file is empty; {WANTED}")
    if not _is_container(start):
        raise VideoError(f"{name}: not a video; {WANTED}")


def check_upload(path: Path, name: str, limits: Limits) -> None:
    """Raises VideoError for a file that is not a video or has no frame, TooLarge for a clip that lasts too long."""
    check_start(path, name)
    try:
        # By the times of the pictures: a header may lack the length, or lie.
        seconds = round(Video(path).seconds(), 3)
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), name)) from None
    if seconds > 60 * limits.minutes:
        raise TooLarge(f"{name}: lasts {span(seconds)}; at most {span(60 * limits.minutes)} are taken (--max-minutes)")


def _is_container(start: bytes) -> bool:
    return (
        start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # mp4, mov, 3gp
        or start[:4] == b"\x1aE\xdf\xa3"  # webm, mkv
        or (start[:4] == b"RIFF" and start[8:12] == b"AVI ")
        or start[:4] in (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")  # mpg
        or start[:4] == b"0&\xb2u"  # wmv
        or start[:3] == b"FLV"
        or start[:4] == b"OggS"
    )


def span(seconds: float) -> str:
    """A time in words, rounded up."""
    number, unit = (seconds / 60, "minutes") if seconds >= 60 else (seconds, "seconds")
    return f"{math.ceil(round(100 * number, 3)) / 100:g} {unit}"
