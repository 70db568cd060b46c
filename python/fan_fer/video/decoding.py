"""Videos as streams of RGB frames with times, through PyAV."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import VideoError, one_line
from fan_fer.video.containers import ENCRYPTED, codec_name, ends_early
from fan_fer.video.frame import FALLBACK_FPS, Frame, read_frames
from fan_fer.video.images import HEAD, count_images, decode_images, is_image
from fan_fer.video.paths import Readable, check_pointer, open_container, open_file, read_bytes
from fan_fer.video.streams import MP4, Undecodable, picture_streams, refuse
from fan_fer.video.times import increasing
from fan_fer.video.upright import Converter

HIGHEST_FPS = 1000.0
PLAUSIBLE_FPS = 120.0  # beyond it, a rate may be how finely the file counts time
TIMEOUT = (20.0, 30.0)  # seconds without an answer from another machine: to open, to read
SEQUENCE = b"\0\0\1\xb3"  # of MPEG-1 and MPEG-2, with the size of the pictures behind it
RETRIES = 100  # errors of the container in a row, after which the rest is given up
CODEC_HELP = "cannot be decoded here; as H.264 they can: ffmpeg -i IN -c:v libx264 OUT.mp4"


class Video:
    """A video, read as a stream; a still image is a clip of one frame at time 0.

    Iterating decodes a frame at a time and holds few others; every iteration starts at the first frame (of an
    address: at what comes then). Images are upright, with square pixels: what a phone, a camera or an old format
    writes into the file about them is applied. Times are the container's, from the beginning of the pictures.

    source: a file, the bytes of one, or an address ("rtsp://...").

    Attributes beside those of :class:`fan_fer.video.frame.Clip`:
        path: the file; None where the source is none.

    Raises:
        VideoError: the source is missing, not readable, not a video, or has no frame that can be decoded.
    """

    consecutive = True

    def __init__(self, source: str | os.PathLike[str] | bytes | bytearray) -> None:
        self.name = None if isinstance(source, (bytes, bytearray)) else os.fsdecode(source)
        self.path = None if self.name is None or is_address(self.name) else Path(self.name)
        self._data = bytes(source) if isinstance(source, (bytes, bytearray)) else b""
        self._shown = "the clip" if self.name is None else one_line(self.name)
        self.fps = FALLBACK_FPS
        self.frame_count: int | None = None
        self.duration: float | None = None
        self.warnings: list[str] = []
        self.damaged: dict[int, str] = {}
        self.live = False
        self._is_image = self._begins_as_image()
        if self._is_image:
            with self._file() as file:
                data = file.read()
            next(decode_images(data, self._shown))
            self.frame_count = count_images(data)
            return
        self._stream: int | None = None
        if self.name is None or self.path is not None:
            with self._open() as decoding:
                self._stream = decoding.moving()
        with self._open() as decoding:
            self.fps, self.frame_count, self.duration = decoding.header()
            self.live = self.name is not None and self.path is None and decoding.live()
            if next(decoding.images(), None) is None:
                raise VideoError(f"{self._shown}: no frame of this video can be decoded")

    def __iter__(self) -> Iterator[Frame]:
        if self._is_image:
            with self._file() as file:
                images = decode_images(file.read(), self._shown)
            for index, (time, image) in enumerate(images):
                yield Frame(index, time, image)
            return
        self.warnings.clear()
        with self._open() as decoding:
            index = -1
            for index, (time, image) in enumerate(decoding.images()):
                yield Frame(index, time, image)
            if decoding.incomplete():
                count = f"{index + 1} of {self.frame_count}" if index + 1 < (self.frame_count or 0) else f"{index + 1}"
                self.warnings.append(f"{self._shown}: incomplete or damaged: {count} frames could be read")

    def read(self, indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """The images of the frames numbered ``indices``, as :func:`fan_fer.video.frame.read_frames` gives them."""
        return read_frames(self, indices)

    def seconds(self) -> float:
        """How long the pictures last, by the times of all of them; none is decoded. Of a still image 0."""
        if self._is_image:
            return 0.0
        with self._open() as decoding:
            return decoding.seconds()

    def _begins_as_image(self) -> bool:
        if self.name is not None and self.path is None:
            return False
        start = self._data[:HEAD] if self.path is None else read_bytes(self.path, HEAD)
        if not start:
            raise VideoError(f"{self._shown}: the file is empty")
        check_pointer(start, self._shown)
        return is_image(start, "" if self.path is None else self.path.suffix)

    def _file(self) -> io.BufferedIOBase:
        return io.BytesIO(self._data) if self.path is None else open_file(self.path)

    @contextmanager
    def _open(self) -> Iterator[_Decoding]:
        # A file is opened here, because FFmpeg takes some names for protocols.
        file = None if self.name is not None and self.path is None else self._file()
        try:
            source, timeout = (self.name, TIMEOUT) if file is None else (Readable(file), None)
            with open_container(source, timeout) as container:
                yield _Decoding(container, self._shown, file, self._stream)
        except Undecodable:
            codec = None if file is None else codec_name(file)
            if codec == ENCRYPTED:
                raise VideoError(f"{self._shown}: its pictures are encrypted") from None
            named = f" ({codec})" if codec else ""
            raise VideoError(f"{self._shown}: its pictures are in a format{named} that {CODEC_HELP}") from None
        except av.FFmpegError as error:
            if file is None:
                raise VideoError(f"{self._shown}: cannot be opened ({error.strerror})") from None
            raise VideoError(f"{self._shown}: not a video, or a damaged one") from None
        except OSError as error:
            raise VideoError(f"{self._shown}: cannot be read ({error.strerror or error})") from None
        finally:
            if file is not None:
                file.close()


def is_address(name: str) -> bool:
    """Whether a name is an address with a protocol, such as "https://..."."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


class _Decoding:
    """A video that is open, decoded once.

    file: what it is read from, None for an address.
    stream: which of its streams, None for the first that holds pictures other than a cover.
    """

    def __init__(self, container: Any, shown: str, file: io.BufferedIOBase | None, stream: int | None) -> None:
        self._container = container
        self._shown = shown
        self._file = file
        self._pictures = picture_streams(container, shown)
        self._stream = self._pictures[0] if stream is None else container.streams[stream]
        self._codec = self._stream.codec_context
        self._codec_name = self._codec.name  # asked later, PyAV 19 dies where the decoder has failed to begin
        self._stream.thread_type = "AUTO"
        # Of the container, or else of the codec; what the codec says later takes the place of what it said first.
        self._aspect = self._stream.sample_aspect_ratio
        self._first_aspect = self._codec.sample_aspect_ratio
        self._sequence: bytes | None = None
        self._damage = self._packets = 0

    def moving(self) -> int:
        """Which stream is the video: beside others, or beside sound, the first that has two pictures.

        Raises VideoError where the only picture is the cover of a piece of sound.
        """
        streams = self._pictures
        if len(streams) > 1 or self._container.streams.audio:
            seen = {stream.index: stream.frames for stream in streams}
            if self._container.format.name != MP4 or not all(seen.values()):  # others do not count, or not exactly
                seen = dict.fromkeys(seen, 0)
                for packet in self._demux(streams):
                    seen[packet.stream.index] += packet.size > 0
                    if seen[packet.stream.index] == 2:
                        break
            for index, pictures in seen.items():
                if pictures > 1:
                    return int(index)
            if self._container.streams.audio and max(seen.values()) == 1:
                refuse(self._container, self._shown)
        return int(streams[0].index)

    def header(self) -> tuple[float, int | None, float | None]:
        """Frames per second, how many there are, and their seconds."""
        stream, container = self._stream, self._container
        rate = float(stream.average_rate or 0)
        fps = rate if 0 < rate <= HIGHEST_FPS else FALLBACK_FPS
        duration = None
        if stream.duration:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / 1e6
        duration = duration if duration and 0 < duration < 1e9 else None
        count = stream.frames or (round(duration * rate) if duration and 0 < rate <= PLAUSIBLE_FPS else 0)
        return fps, count or None, duration

    def seconds(self) -> float:
        """From the first picture to the end of the last."""
        step, base = 1 / self.header()[0], float(self._stream.time_base)
        packets = (packet for packet in self._demux([self._stream]) if packet.size and not packet.is_discard)
        # When they are decoded is not known of Matroska's first pictures that wait for later ones: these are left out.
        known = (packet for packet in packets if packet.dts is not None or packet.pts is None)
        stamped = ((None if packet.dts is None else packet.dts * base, packet) for packet in known)
        first, end = math.inf, 0.0
        for time, packet in increasing(stamped, step):
            if packet.pts is not None and packet.dts is not None:
                time += (packet.pts - packet.dts) * base  # when it is shown, not when it is decoded
            first = min(first, time)
            end = max(end, time + (packet.duration * base if packet.duration else step))
        return max(0.0, end - first)

    def live(self) -> bool:
        """Whether an address gives pictures as they happen: it has no end, and does not come in files of seconds."""
        return self.header()[2] is None and self._container.format.name not in ("dash", "hls")

    def images(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """The time of every frame and its image."""
        converter = Converter()
        for time, (frame, aspect) in increasing(self._stamped(), 1 / self.header()[0]):
            try:
                image = converter.image(frame, aspect)
            except av.FFmpegError:
                self._damage += 1
            else:
                yield time, image

    def frames(self) -> Iterator[Any]:
        """The decoded frames. What is damaged is left out, as players do."""
        decoded = 0
        for packet in self._demux([self._stream]):
            self._packets += packet.size > 0
            try:
                frames = self._decode(packet)
            except EOFError:
                break
            except (av.error.NotImplementedError, av.error.PatchWelcomeError) as error:
                if not decoded:
                    raise Undecodable from error
                self._damage += 1
                continue
            except (av.FFmpegError, ValueError):  # ValueError: PyAV 19's, where the decoder has failed to begin
                # A recording that was cut out of another begins with pictures that lack those before.
                self._damage += decoded > 0
                continue
            for frame in frames:
                decoded += 1
                self._damage += frame.is_corrupt
                yield frame

    def incomplete(self) -> bool:
        """Whether something was damaged, or the file ends before its end; known after the last frame."""
        if self._damage or self._file is None or not ends_early(self._file):
            return self._damage > 0
        # Of these the header tells whether a picture is among what is missing.
        counted = self._container.format.name in ("avi", MP4) and self._stream.frames
        return not counted or self._packets < counted

    def _demux(self, streams: Sequence[Any]) -> Iterator[Any]:
        """The packets, and those with nothing in them that end the streams. Goes on behind damaged places."""
        packets = self._container.demux(streams)
        errors = 0
        while errors < (RETRIES if self._container.file else 1):
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV's, at the end of a file in which a stream began midway
                break
            except av.FFmpegError:
                errors += 1
                packets = self._container.demux(streams)
                continue
            if packet is None:
                break
            self._damage += errors > 0
            errors = 0
            if packet.stream in streams:
                yield packet
        self._damage += errors

    def _decode(self, packet: Any) -> list[Any]:
        """The frames that come of a packet, which need not be those in it."""
        held: list[Any] = []
        if self._codec_name in ("mpeg1video", "mpeg2video") and packet.is_keyframe:
            # Their decoder drops the pictures it still holds where the size changes.
            start = bytes(packet)[:7]
            if start[:4] == SEQUENCE:
                if self._sequence not in (None, start):
                    held = self._codec.decode(None)
                    self._codec.flush_buffers()
                self._sequence = start
        return held + list(packet.decode())

    def _stamped(self) -> Iterator[tuple[float | None, tuple[Any, float]]]:
        """The frames, and a pixel's width by its height, with seconds since the stream's beginning."""
        start = self._stream.start_time
        base = self._stream.time_base
        aspect = float(self._aspect or 1)
        decoding_order = self._container.format.name == "avi"  # all it has; what FFmpeg makes of it goes to and fro
        for number, frame in enumerate(self.frames()):
            stamp = frame.dts if decoding_order or frame.pts is None else frame.pts
            if number == 0 and stamp is not None and (start is None or decoding_order or stamp < start):
                start = stamp
            seconds = None if stamp is None else (stamp - (start or 0)) * base.numerator / base.denominator
            # Frames of another size are those from before a change that the decoder gives last.
            if (frame.width, frame.height) == (self._codec.width, self._codec.height):
                own = self._codec.sample_aspect_ratio
                aspect = float((self._aspect if own == self._first_aspect else own) or 1)
            yield seconds, (frame, aspect)
