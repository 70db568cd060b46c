"""What a file says of itself that FFmpeg keeps to itself: what its pictures are coded in, and how long it is."""

from __future__ import annotations

import io
import re
import struct

LOOKED_AT = 4_000_000  # bytes at either end of a file
BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"mdat", b"wide", b"free", b"skip")  # that MP4 files begin with
_CODES = (
    rb"hdlr.{8}vide.{0,2000}?stsd.{12}([ -~]{4})",  # MP4, MOV: the first sample description of pictures
    rb"strh.{4}vids([ -~]{4})",  # AVI
    rb"(V_[A-Z0-9/_.]{2,30})",  # Matroska, WebM
)
ENCRYPTED = "encrypted"
CODECS = {
    "AV1": ("av01", "AV01", "V_AV1"),
    "HEVC": ("hvc1", "hev1", "HEVC", "V_MPEGH/ISO/HEVC"),
    "Dolby Vision": ("dvh1", "dvhe", "dvav", "dva1"),
    "VVC": ("vvc1", "vvi1", "V_MPEGI/ISO/VVC"),
    "VP9": ("vp09", "VP90", "V_VP9"),
    "VP8": ("vp08", "VP80", "V_VP8"),
    "H.264": ("avc1", "avc3", "H264", "V_MPEG4/ISO/AVC"),
    "ProRes": ("apch", "apcn", "apcs", "apco", "ap4h", "ap4x", "V_PRORES"),
    "ProRes RAW": ("aprn", "aprh"),
    "Blackmagic RAW": ("brxq", "brst", "brvn", "brs2", "brxh", "brlt"),
    "Canon RAW": ("CRAW",),
    "CineForm": ("CFHD",),
    "DNxHD": ("AVdn", "AVdh"),
    "Apple Intermediate Codec": ("icod",),
    "APV": ("apv1",),
    "EVC": ("evc1",),
    ENCRYPTED: ("encv", "drmi"),
}


def codec_name(file: io.BufferedIOBase) -> str | None:
    """What people call it, such as "AV1", or else the file's own code; None where none is found."""
    file.seek(0)
    content = file.read(LOOKED_AT)
    size = file.seek(0, io.SEEK_END)
    file.seek(max(LOOKED_AT, size - LOOKED_AT))
    content += file.read()
    for pattern in _CODES:
        if found := re.search(pattern, content, re.DOTALL):
            code = found[1].decode("ascii").strip()
            return next((name for name, codes in CODECS.items() if code in codes), code)
    return None


def ends_early(file: io.BufferedIOBase) -> bool:
    """Whether the file is shorter than it says. Of MPEG streams and others that do not say it, False."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[4:8] in BOXES:
        return _last_box(file, size) > size
    if start[:4] == b"RIFF":
        return _last_chunk(file, size) > size
    if start[:4] == b"\x1aE\xdf\xa3":
        return _segment_end(file) > size
    if start[:3] == b"FLV":
        return not _ends_in_tag(file, size)
    if start[:4] in (b"GIF8", b"\x89PNG"):
        file.seek(max(0, size - 64))
        return not re.search(rb";\0*$|IEND", file.read())
    if start[:4] == b"OggS":
        file.seek(max(0, size - 65536))
        page = file.read().rpartition(b"OggS")[2]
        pieces = page[22:23]  # how many lengths follow
        whole = pieces and len(page) >= 23 + pieces[0] + sum(page[23 : 23 + pieces[0]])
        return not (whole and page[1] & 4)  # marked as a stream's last
    return False


def _last_box(file: io.BufferedIOBase, size: int) -> int:
    """Where the last box of an MP4 file ends, by its own account."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16).ljust(16, b"\0")
        length, name, longer = struct.unpack(">I4sQ", head)
        length = longer if length == 1 else length
        if length < 8 or not name.isascii():
            break  # it goes on to the end of the file, or what follows is something else
        place += length
    return place


def _last_chunk(file: io.BufferedIOBase, size: int) -> int:
    """Where the last chunk of an AVI file ends, by its own account."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or length in (0, 0xFFFFFFFF):
            break  # written without going back, or what follows is something else
        place += 8 + length + length % 2
    return place


def _segment_end(file: io.BufferedIOBase) -> int:
    """Where the only large element of a Matroska file ends; 0 where it does not say, as in live recordings."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(20)
        _, after = _vint(head, 0)
        length, after = _vint(head, after)
        if length is None:
            return 0
        place += after + length
        if head[:4] == b"\x18S\x80g":
            return place


def _vint(head: bytes, place: int) -> tuple[int | None, int]:
    """A number of EBML's, None for the one that says unknown, and where it ends."""
    first = head[place] if place < len(head) else 0
    count = 9 - first.bit_length()
    value = int.from_bytes(head[place : place + count], "big") & ((1 << 7 * count) - 1)
    unknown = first == 0 or value == (1 << 7 * count) - 1
    return None if unknown else value, place + count


def _ends_in_tag(file: io.BufferedIOBase, size: int) -> bool:
    """Whether the last number of an FLV file is the length of the tag before it."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    tag = file.read(4)
    return int.from_bytes(tag[1:], "big") == length - 11
