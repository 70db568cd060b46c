"""Small videos of every kind, made with PyAV."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def quadrants(height: int = 96, width: int = 160) -> np.ndarray:
    """Red at top left, green at top right, blue at bottom left, grey at bottom right."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, GREY
    return image


def corners(image: np.ndarray) -> list[tuple[int, int, int]]:
    """The nearest of the four colours at top left, top right, bottom left, bottom right."""
    colours = [RED, GREEN, BLUE, GREY]
    return [min(colours, key=lambda colour: np.abs(pixel - colour).sum()) for pixel in corner_pixels(image)]


def corner_pixels(image: np.ndarray) -> np.ndarray:
    """The colours (4, 3) at top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    seen = [image[y, x] for y in (height // 4, -height // 4) for x in (width // 4, -width // 4)]
    return np.array(seen, int)


def video(
    kind: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    images: Sequence[np.ndarray] | int = 5,
    stamps: Sequence[int] | None = None,
    *,
    rate: int = 25,
    options: dict[str, str] | None = None,
    **settings: Any,
) -> bytes:
    """A file with these images, or so many of four colours, ``rate`` a second, or at ``stamps`` in milliseconds.

    settings: of the codec, such as ``sample_aspect_ratio``.
    """
    frames = [quadrants()] * images if isinstance(images, int) else images
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        space = {"dst_colorspace": settings.get("colorspace"), "dst_color_range": settings.get("color_range")}
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format=pixels, **space)
            frame.pts, frame.time_base = (
                (number, Fraction(1, rate)) if stamps is None else (stamps[number], Fraction(1, 1000))
            )
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def with_matrix(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An MP4 or MOV file whose track header asks that a pixel at (x, y) be shown at (a x + c y, b x + d y)."""
    changed = bytearray(data)
    start = data.index(b"tkhd") + 44  # behind ten 4-byte fields
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    changed[start : start + 36] = struct.pack(">9i", *matrix)
    return bytes(changed)


def with_steps(data: bytes, steps: Sequence[int]) -> bytes:
    """An MP4 file with one video, its index at the end, whose frames last so long, in its own units."""
    changed = bytearray(data)
    at = data.index(b"stts")
    (size,) = struct.unpack(">I", data[at - 4 : at])
    table = struct.pack(">II", 0, len(steps)) + b"".join(struct.pack(">II", 1, step) for step in steps)
    changed[at + 4 : at - 4 + size] = table
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        start = changed.index(box) - 4
        (old,) = struct.unpack(">I", changed[start : start + 4])
        changed[start : start + 4] = struct.pack(">I", old + len(table) + 8 - size)
    edits = changed.index(b"edts")
    changed[edits : edits + 4] = b"free"  # they would cut the clip at its old duration
    return bytes(changed)


def with_edits(data: bytes, edits: Sequence[tuple[int, int]]) -> bytes:
    """An MP4 file with one video, its index at the end, that shows these parts: milliseconds, beginning in its units.

    A part that begins at -1 is empty.
    """
    changed = bytearray(data)
    at = data.index(b"edts")
    (size,) = struct.unpack(">I", data[at - 4 : at])
    parts = b"".join(struct.pack(">IiI", length, start, 1 << 16) for length, start in edits)
    box = struct.pack(">I4sI4sII", 24 + len(parts), b"edts", 16 + len(parts), b"elst", 0, len(edits)) + parts
    changed[at - 4 : at - 4 + size] = box
    for name in (b"moov", b"trak"):
        start = changed.index(name) - 4
        (old,) = struct.unpack(">I", changed[start : start + 4])
        changed[start : start + 4] = struct.pack(">I", old + len(box) - size)
    return bytes(changed)


def with_sound(data: bytes, kind: str, seconds: float, codec: str = "aac") -> bytes:
    """The video of a file with silence of another length beside it."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=kind) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream(codec, rate=8000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
        for number in range(round(8000 * seconds / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return file.getvalue()
