"""What a file says its pictures are coded in, for those that no decoder is there for: FFmpeg keeps it to itself."""

from __future__ import annotations

import io
import re

LOOKED_AT = 4_000_000  # bytes at either end of a file
OTHERS = ("mp4a", "sowt", "twos", "alac", "ac-3", "ec-3", "Opus", "fLaC", ".mp3", "text", "tx3g", "tmcd", "wvtt")
_NAMES = (
    rb"stsd.{12}([ -~]{4})",  # MP4, MOV: the first sample description
    rb"strh.{4}vids([ -~]{4})",  # AVI
    rb"(V_[A-Z0-9/_.]{2,30})",  # Matroska, WebM
)


def codec_name(file: io.BufferedIOBase) -> str | None:
    """Such as "avc1" or "V_VP9"; None where the file does not say, or says it in another way."""
    file.seek(0)
    content = file.read(LOOKED_AT)
    size = file.seek(0, io.SEEK_END)
    file.seek(max(LOOKED_AT, size - LOOKED_AT))
    content += file.read()
    for pattern in _NAMES:
        # Sound and texts have descriptions too.
        for found in re.finditer(pattern, content, re.DOTALL):
            name = found[1].decode("ascii").strip()
            if name not in OTHERS:
                return name
    return None
