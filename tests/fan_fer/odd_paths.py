"""Names and paths that some call of the system, or some library, does not take."""

from __future__ import annotations

import os
import socket
from pathlib import Path

FOREIGN = os.fsdecode(b"z\xc4\xe3 \xff")  # no UTF-8, as from an archive made elsewhere
BROKEN = "a\nb\r\x1b[31m"
LONGEST = 255  # bytes of a name
UNREACHABLE = {
    "x" * 300 + ".mp4": "File name too long",
    "/".join(["d" * 200] * 30): "File name too long",
    "loop.mp4": "Too many levels of symbolic links",
    "loop.mp4/x.mp4": "Too many levels of symbolic links",
    "dangling.mp4": "no such file",
    "pipe.mp4": "not a file",
    "socket.mp4": "not a file",
    "folder.mp4": "no image in this folder",
    "file.txt/x.mp4": "Not a directory",
    "/dev/zero": "not a file",
    "/dev/full": "not a file",
    "/proc/self/mem": "Input/output error",
}
"""Relative paths to no video after ``make_unreachable``, each with what is said of it as a clip."""


def make_unreachable(folder: Path) -> list[str]:
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "dangling.mp4").symlink_to("nowhere")
    (folder / "folder.mp4").mkdir()
    (folder / "file.txt").touch()
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(folder)  # the address of a socket is short
        made.bind("socket.mp4")
        os.chdir(before)
    return list(UNREACHABLE)
