"""Videos as streams of RGB frames with times, through PyAV."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from fan_fer.base.errors import VideoError, one_line
from fan_fer.video.codecs import codec_name
from fan_fer.video.frame import FALLBACK_FPS, Frame, read_frames
from fan_fer.video.images import decode_images, is_image
from fan_fer.video.paths import open_file, read_bytes
from fan_fer.video.times import increasing
from fan_fer.video.upright import Converter

HIGHEST_FPS = 1000.0
PLAUSIBLE_FPS = 120.0  # beyond it, a rate may be how finely the file counts time
TIMEOUT = (20.0, 30.0)  # seconds without an answer from another machine: to open, to read
HEAD = 65536  # bytes that say what a file is
RETRIES = 100  # errors of the container in a row, after which the rest is given up
WHOLE = 0.95  # counts and durations of good files are a little off


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
            self.frame_count = len(self._images())
            return
        with self._open() as decoding:
            self.fps, self.frame_count, self.duration = decoding.header()
            self.live = self.name is not None and self.path is None and decoding.live()
            if next(decoding.images(), None) is None:
                raise VideoError(f"{self._shown}: no frame of this video can be decoded")

    def __iter__(self) -> Iterator[Frame]:
        if self._is_image:
            for index, (time, image) in enumerate(self._images()):
                yield Frame(index, time, image)
            return
        self.warnings.clear()
        with self._open() as decoding:
            index = -1
            for index, (time, image) in enumerate(decoding.images()):
                yield Frame(index, time, image)
            if decoding.incomplete():
                count = f"{index + 1} of {self.frame_count}" if index < (self.frame_count or 0) else f"{index + 1}"
                self.warnings.append(f"{self._shown}: incomplete or damaged: {count} frames could be read")

    def read(self, indices: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """The images of the frames numbered ``indices``, as :func:`fan_fer.video.frame.read_frames` gives them."""
        return read_frames(self, indices)

    def _begins_as_image(self) -> bool:
        if self.name is not None and self.path is None:
            return False
        start = self._data[:HEAD] if self.path is None else read_bytes(self.path, HEAD)
        if not start:
            raise VideoError(f"{self._shown}: the file is empty")
        return is_image(start, "" if self.path is None else self.path.suffix)

    def _images(self) -> list[tuple[float, NDArray[np.uint8]]]:
        return decode_images(self._data if self.path is None else read_bytes(self.path), self._shown)

    def _file(self) -> io.BufferedIOBase:
        return io.BytesIO(self._data) if self.path is None else open_file(self.path)

    @contextmanager
    def _open(self) -> Iterator[_Decoding]:
        # A file is opened here, because FFmpeg takes some names for protocols.
        file = None if self.name is not None and self.path is None else self._file()
        try:
            source, timeout = (self.name, TIMEOUT) if file is None else (file, None)
            with av.open(source, metadata_errors="replace", timeout=timeout) as container:
                yield _Decoding(container, self._shown)
        except _Undecodable:
            codec = None if file is None else codec_name(file)
            named = f" ({codec})" if codec else ""
            raise VideoError(f"{self._shown}: its pictures are in a format{named} that cannot be decoded") from None
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


class _Undecodable(Exception):
    """There is no decoder for the pictures."""


class _Decoding:
    """A video that is open, decoded once."""

    def __init__(self, container: Any, shown: str) -> None:
        self._container = container
        covers = Disposition.attached_pic
        pictures = [stream for stream in container.streams.video if not stream.disposition & covers]
        if not pictures or container.format.name == "tty":
            if container.streams.audio:
                raise VideoError(f"{shown}: only sound in it")
            raise VideoError(f"{shown}: not a video, or a damaged one")
        self._stream = pictures[0]
        if self._stream.codec_context is None:
            raise _Undecodable
        self._stream.thread_type = "AUTO"
        # Files that count no frames give the seconds of the longest stream.
        self._timed = not self._stream.frames and container.format.name in ("matroska,webm", "flv")
        self._streams = [self._stream, *(container.streams.audio if self._timed else ())]
        self._damage = self._packets = 0
        self._end = 0.0

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

    def live(self) -> bool:
        """Whether an address gives pictures as they happen: it has no end, and does not come in files of seconds."""
        return self.header()[2] is None and self._container.format.name not in ("dash", "hls")

    def images(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """The time of every frame and its image."""
        converter = Converter()
        for time, frame in increasing(self._stamped(), 1 / self.header()[0]):
            aspect = self._stream.sample_aspect_ratio or 1  # of the container, or else of the codec
            try:
                image = converter.image(frame, float(aspect))
            except av.FFmpegError:
                self._damage += 1
            else:
                yield time, image

    def frames(self) -> Iterator[Any]:
        """The decoded frames. What is damaged is left out, as players do."""
        packets = self._container.demux(self._streams)
        errors = decoded = 0
        while errors < (RETRIES if self._container.file else 1):
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV's, at the end of a file in which a stream began midway
                break
            except av.FFmpegError:
                errors += 1
                packets = self._container.demux(self._streams)
                continue
            if packet is None:
                break
            errors = 0
            if self._timed and packet.pts is not None:
                self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream != self._stream:
                continue
            self._packets += packet.size > 0
            try:
                frames = packet.decode()
            except EOFError:
                break
            except av.FFmpegError:
                # A recording that was cut out of another begins with pictures that lack those before.
                self._damage += decoded > 0
                continue
            for frame in frames:
                decoded += 1
                self._damage += frame.is_corrupt
                yield frame
        self._damage += errors

    def incomplete(self) -> bool:
        """Whether something was damaged, or the file ended before its end; known after the last frame."""
        if self._damage > 0 or self._packets < WHOLE * self._stream.frames - 1:
            return True
        return self._timed and self._end < WHOLE * (self._container.duration or 0) / 1e6 - 1

    def _stamped(self) -> Iterator[tuple[float | None, Any]]:
        """The frames with seconds since the stream's beginning."""
        start = self._stream.start_time
        base = self._stream.time_base
        decoding_order = self._container.format.name == "avi"  # all it has; what FFmpeg makes of it goes to and fro
        for number, frame in enumerate(self.frames()):
            stamp = frame.dts if decoding_order or frame.pts is None else frame.pts
            if number == 0 and stamp is not None and (start is None or decoding_order or stamp < start):
                start = stamp
            yield None if stamp is None else (stamp - (start or 0)) * base.numerator / base.denominator, frame
