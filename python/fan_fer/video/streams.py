"""The streams of an open file that hold pictures of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from av.stream import Disposition

from fan_fer.base.errors import VideoError

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of the format


class Undecodable(Exception):
    """There is no decoder for the pictures."""


def picture_streams(container: Any, shown: str) -> Sequence[Any]:
    """At least one, without covers that are marked as such.

    Raises VideoError for a file, called ``shown``, with none or of a kind that PyAV cannot put together; Undecodable.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams or container.format.name == "tty":
        refuse(container, shown)
    if streams[0].codec_context is None:
        raise Undecodable
    if streams[0].disposition & Disposition.dependent and container.format.name == MP4:
        raise VideoError(f"{shown}: a picture in tiles, which cannot be read; as JPEG or PNG it can")
    return streams


def refuse(container: Any, shown: str) -> None:
    """Raises VideoError for a file that shows no moving picture."""
    if not container.streams.audio:
        raise VideoError(f"{shown}: not a video, or a damaged one")
    cover = " and a cover picture" if container.streams.video else ""
    raise VideoError(f"{shown}: no video in it, only sound{cover}")
