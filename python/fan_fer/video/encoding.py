"""Writing videos that browsers play: H.264 and AAC in MP4, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.opencv import cv2
from fan_fer.video.paths import Readable, open_container, open_file

TIME_BASE = Fraction(1, 90_000)  # of a frame's time, in seconds
QUALITY = {"crf": "20", "preset": "veryfast"}
HIGHEST_FPS = 60.0  # a rate beyond it says how finely a file counts time, not how many pictures it holds
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class Mp4Writer:
    """Writes RGB frames, with the sound of another file, to an MP4 file; a context manager.

    path: the file to make.
    size: width and height of the video in pixels. Odd ones are made even by repeating the last column or row. Frames
        of another size are scaled to it, with black at the sides where their shape differs.
    fps: frames per second; the frames may come at other times.
    sound: a video whose sound is kept up to the last frame, if it has any.

    Raises PyAV's FFmpegError, which may be an OSError too, where the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, sound: Path | None = None) -> None:
        self._size = size
        self._padding = size[1] % 2, size[0] % 2
        fps = min(fps, HIGHEST_FPS)
        self._period = 1 / fps
        self._end = 0.0
        self._output = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        self._video = self._output.add_stream("libx264", rate=rate, options=QUALITY)
        self._video.width, self._video.height = size[0] + self._padding[1], size[1] + self._padding[0]
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = TIME_BASE
        self._sound = Sound(sound, self._output) if sound is not None else None

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._output.mux(self._video.encode(None))
                self._mux_sound()
        finally:
            self._output.close()
            if self._sound is not None:
                self._sound.close()

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        """Adds a frame (H, W, 3), uint8 RGB, at so many seconds; times increase."""
        image = fitted(image, self._size)
        if any(self._padding):
            image = np.pad(image, ((0, self._padding[0]), (0, self._padding[1]), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = round(time / TIME_BASE), TIME_BASE
        self._output.mux(self._video.encode(frame))
        # The file holds sound and pictures in the order of their times.
        self._end = time + self._period
        self._mux_sound()

    def _mux_sound(self) -> None:
        if self._sound is not None:
            self._output.mux(list(self._sound.packets(self._end)))


class Sound:
    """The sound of a video as packets for another one; none where it has no sound or none that can be read."""

    def __init__(self, path: Path, output: Any) -> None:
        self._file = open_file(path)
        self._input: Any = None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        try:
            self._input = open_container(Readable(self._file))
            sounds = self._input.streams.audio
            if sounds and sounds[0].codec_context is not None:  # None where no decoder is there for it
                self._packets = self._read(output)
                self._next = next(self._packets, None)
        except av.FFmpegError:
            pass  # the pictures were readable by other means: they are written without sound

    def packets(self, end: float) -> Iterator[Any]:
        """Those not given yet that begin before ``end`` seconds."""
        while self._next is not None and self._next.pts * self._next.time_base < end:
            yield self._next
            self._next = next(self._packets, None)

    def close(self) -> None:
        if self._input is not None:
            self._input.close()
        self._file.close()

    def _read(self, output: Any) -> Iterator[Any]:
        source = self._input.streams.audio[0]
        # Times of frames are counted from the first picture.
        pictures = self._input.streams.video
        start = (pictures[0].start_time or 0) * pictures[0].time_base if pictures else 0
        shift = round(start / source.time_base)
        copied = source.codec.canonical_name == "aac"
        if copied:
            target = output.add_stream_from_template(source)
        else:
            rate = source.codec_context.sample_rate
            target = output.add_stream("aac", rate=rate if rate in AAC_RATES else AAC_RATES[-1])
        try:
            for packet in self._input.demux(source):
                if copied:
                    if packet.pts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, target
                        yield packet
                    continue
                for frame in packet.decode():
                    frame.pts = None if frame.pts is None else frame.pts - shift
                    yield from target.encode(frame)
        except av.FFmpegError:
            pass  # damaged from here on
        if not copied:
            yield from target.encode(None)


def fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, 3) scaled to a width and height, its shape kept, with black at the sides where that differs."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    across, down = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    whole = np.zeros((size[1], size[0], 3), np.uint8)
    whole[top : top + down, left : left + across] = cv2.resize(image, (across, down), interpolation=cv2.INTER_AREA)
    return whole
