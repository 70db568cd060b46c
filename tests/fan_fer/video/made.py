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
    container: dict[str, str] | None = None,
    **settings: Any,
) -> bytes:
    """A file with these images, or so many of four colours, ``rate`` a second, or at ``stamps`` in milliseconds.

    options, container: of the codec and of the file. settings: of the codec, such as ``sample_aspect_ratio``.
    """
    frames = [quadrants()] * images if isinstance(images, int) else images
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=container or {}) as output:
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
        sound = output.add_stream(codec, rate=48000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
        output.start_encoding()
        change = av.AudioResampler(sound.codec_context.format.name, "mono", 48000)
        length = sound.codec_context.frame_size or 1024
        for number in range(round(48000 * seconds / length)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, length), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, length * number
            for each in change.resample(frame):
                output.mux(sound.encode(each))
        output.mux(sound.encode(None))
    return file.getvalue()


def with_tags(data: bytes, kind: str, tag: bytes) -> bytes:
    """A file with a title of the whole and of each stream, of bytes in any encoding."""
    file, letters = io.BytesIO(), "t" * len(tag)
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=kind) as output:
        streams = [output.add_stream_from_template(stream) for stream in source.streams]
        for tags in [output.metadata, *(stream.metadata for stream in streams)]:
            tags["title"] = letters
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return file.getvalue().replace(letters.encode(), tag)


def joined(
    kind: str, parts: Sequence[bytes], matrix: Sequence[int] | None = None, bitstream_filter: str | None = None
) -> bytes:
    """The pictures of several files as they are, one after the other, in one stream of another file.

    matrix: how they lie, for the file's header, as FFmpeg has it.
    """
    file = io.BytesIO()
    begin = 0
    with av.open(file, "w", format=kind) as output:
        stream = None
        for part in parts:
            with av.open(io.BytesIO(part)) as source:
                pictures = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(pictures)
                    if matrix is not None:
                        stream.set_display_matrix(list(matrix))
                change = None
                if bitstream_filter is not None:
                    change = av.bitstream.BitStreamFilterContext(bitstream_filter, pictures)
                end = begin
                for packet in source.demux(pictures):
                    if packet.dts is None:
                        continue
                    end = max(end, begin + packet.pts + packet.duration)
                    packet.pts, packet.dts = begin + packet.pts, begin + packet.dts
                    for each in [packet] if change is None else change.filter(packet):
                        each.stream = stream
                        output.mux(each)
                begin = end
    return file.getvalue()


def box(name: bytes, *parts: bytes, version: int | None = None) -> bytes:
    """A box of MP4's; ``version``: with the flags, of those that have them."""
    content = (b"" if version is None else struct.pack(">I", version)) + b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + name + content


def heic(
    images: Sequence[np.ndarray],
    rows: int = 0,
    turns: int = 0,
    mirror: int | None = None,
    small: np.ndarray | None = None,
) -> bytes:
    """A still picture in HEIC: the first of the images, or all of them, as tiles in so many rows, put together.

    turns: quarter turns counter-clockwise; mirror: then upside down (0) or left and right (1).
    small: another picture that shows the same.
    """
    properties: list[bytes] = []
    items: list[tuple[bytes, bytes, list[int]]] = []  # type, data, properties

    def use(*wanted: bytes) -> list[int]:
        properties.extend(each for each in wanted if each not in properties)
        return [properties.index(each) + 1 for each in wanted]

    def size(height: int, width: int) -> bytes:
        return box(b"ispe", struct.pack(">II", width, height), version=0)

    def add(image: np.ndarray) -> None:
        data = video("mp4", "libx265", images=[image], options={"x265-params": "log-level=none:bframes=0", "crf": "5"})
        at, table, place = (data.index(name) for name in (b"hvcC", b"stsz", b"stco"))
        settings = data[at - 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]
        length = int.from_bytes(data[table + 8 : table + 12], "big")
        start = int.from_bytes(data[place + 12 : place + 16], "big")
        items.append((b"hvc1", data[start : start + length], use(settings, size(*image.shape[:2]))))

    for image in images:
        add(image)
    references = b""
    lying = [] if mirror is None else [box(b"imir", bytes([mirror]))]
    lying = [*([box(b"irot", bytes([turns]))] if turns else []), *lying]
    if rows:
        columns = len(images) // rows
        height, width = rows * images[0].shape[0], columns * images[0].shape[1]
        grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
        items.append((b"grid", grid, use(size(height, width))))
        numbers = struct.pack(f">{len(images)}H", *range(1, len(images) + 1))
        references += box(b"dimg", struct.pack(">HH", len(items), len(images)), numbers)
    primary = len(items) if rows else 1
    items[primary - 1][2].extend(use(*lying))
    if small is not None:
        add(small)
        references += box(b"thmb", struct.pack(">HHH", len(items), 1, primary))

    def meta(begin: int) -> bytes:
        starts = [begin + sum(len(data) for _, data, _ in items[:number]) for number in range(len(items))]
        places = [
            struct.pack(">HHHII", number, 0, 1, start, len(data))
            for number, (start, (_, data, _)) in enumerate(zip(starts, items, strict=True), start=1)
        ]
        entries = [
            box(b"infe", struct.pack(">HH", number, 0), kind, b"\0", version=2 << 24)
            for number, (kind, _, _) in enumerate(items, start=1)
        ]
        uses = [
            struct.pack(">HB", number, len(used)) + bytes(used) for number, (_, _, used) in enumerate(items, start=1)
        ]
        return box(
            b"meta",
            box(b"hdlr", struct.pack(">I4s13x", 0, b"pict"), version=0),
            box(b"pitm", struct.pack(">H", primary), version=0),
            box(b"iloc", b"\x44\0", struct.pack(">H", len(items)), *places, version=0),
            box(b"iinf", struct.pack(">H", len(items)), *entries, version=0),
            box(b"iref", references, version=0) if references else b"",
            box(b"iprp", box(b"ipco", *properties), box(b"ipma", struct.pack(">I", len(items)), *uses, version=0)),
            version=0,
        )

    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *(data for _, data, _ in items))
