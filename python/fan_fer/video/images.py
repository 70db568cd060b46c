"""Images as clips, most through OpenCV: files, arrays, and whatever gives frames one by one."""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import VideoError, one_line
from fan_fer.base.opencv import cv2, quiet_opencv
from fan_fer.video.frame import FALLBACK_FPS, Frame
from fan_fer.video.paths import Readable, check_pointer, open_container, read_bytes
from fan_fer.video.streams import Undecodable, picture_streams
from fan_fer.video.upright import Converter

Image = NDArray[np.uint8]

PNG = b"\x89PNG\r\n\x1a\n"
IMAGE_SUFFIXES = (".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
HEAD = 65536  # bytes that say what a file is
NO_DURATION = 100  # milliseconds that browsers show a picture for which says 0
AT_ONCE = 2**28  # bytes of the pictures of an animated WebP that are decoded together
WANTED = "wanted RGB images of uint8"


def read_image(path: str | os.PathLike[str]) -> Image:
    """A still image as uint8 RGB (H, W, 3), upright; the first of an animated one. Raises VideoError."""
    return _decode(read_bytes(Path(path)), os.fsdecode(path))


def is_image(start: bytes, suffix: str) -> bool:
    """Whether a file that begins like this, and has this suffix, is an image rather than a video.

    What moves, and AVIF and HEIC, are videos, as far as FFmpeg reads them: an animated WebP is not.
    """
    if start[:8] == PNG:
        return not moves(start)
    if start[:4] == b"GIF8" or start[4:8] == b"ftyp":
        return False
    suffix = suffix.lower()
    return (
        suffix in IMAGE_SUFFIXES
        or (start[:3] == b"\xff\xd8\xff" and suffix not in (".mjpeg", ".mjpg"))
        or start[:4] in (b"II*\0", b"MM\0*")
        or (start[:2] == b"BM" and start[6:10] == b"\0\0\0\0")
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
    )


def moves(start: bytes) -> bool:
    """Whether a file that begins like this is a GIF, or an animated PNG, WebP or AVIF."""
    return (
        start[:4] == b"GIF8"
        or (start[:8] == PNG and b"acTL" in start[:HEAD].partition(b"IDAT")[0])
        or (start[8:16] == b"WEBPVP8X" and len(start) > 20 and bool(start[20] & 2))
        or start[4:12] in (b"ftypavis", b"ftyphevc")
    )


def count_images(data: bytes) -> int:
    """How many pictures are in an image file."""
    return len(_durations(data)) or 1


def decode_images(data: bytes, shown: str) -> Iterator[tuple[float, Image]]:
    """The time in seconds and the image, RGB and upright, of every picture in an image file. Raises VideoError."""
    durations = _durations(data)
    if not durations:
        yield 0.0, _decode(data, shown)
        return
    times = np.cumsum([0, *((duration or NO_DURATION) for duration in durations)]) / 1000
    width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
    together = max(1, AT_ONCE // (4 * width * height))
    done = 0
    while done < len(durations):
        frames: Sequence[Any] = ()
        with quiet_opencv(), suppress(cv2.error):  # larger than OpenCV accepts
            buffer = np.frombuffer(data, np.uint8)[None]  # OpenCV 4 wants one row
            frames = cv2.imdecodeanimation(buffer, done, together)[1].frames
        if not len(frames):
            raise VideoError(f"{shown}: not an image, or a damaged one")
        for frame in frames[: len(durations) - done]:
            yield float(times[done]), np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2RGB), np.uint8)
            done += 1


def _durations(data: bytes) -> list[int]:
    """Milliseconds of every picture of an animated WebP; none of another file."""
    found: list[int] = []
    if data[8:12] != b"WEBP" or not moves(data[:HEAD]):
        return found
    place = 12
    while place + 24 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        if name == b"ANMF":
            found.append(int.from_bytes(data[place + 20 : place + 23], "little"))
        place += 8 + length + length % 2
    return found


def _decode(data: bytes, shown: str) -> Image:
    if data[4:8] == b"ftyp":  # AVIF and HEIC, of which OpenCV reads some, and turns none upright
        return _decode_with_av(data, shown)
    try:
        with quiet_opencv():
            # Applies the EXIF orientation.
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # larger than OpenCV accepts
        image = None
    if image is None:
        check_pointer(data, shown)
        raise VideoError(f"{shown}: not an image, or a damaged one")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _decode_with_av(data: bytes, shown: str) -> Image:
    try:
        with open_container(Readable(io.BytesIO(data))) as container:
            for frame in container.decode(picture_streams(container, shown)[0]):
                return Converter().image(frame, 1.0)
    except (av.FFmpegError, Undecodable):
        pass
    raise VideoError(f"{shown}: not an image, or a damaged one")


class Images:
    """The images of one clip, read as a stream at FALLBACK_FPS. Damaged ones are left out, and so are their numbers.

    files: the images, in the order of the frames. Of one that moves, the first picture.
    name: what a prediction calls the clip.
    notes: warnings that are known already.

    Attributes beside those of :class:`fan_fer.video.frame.Clip`:
        images: the files.
    """

    consecutive = False
    live = False

    def __init__(
        self, files: Sequence[str | os.PathLike[str]], name: str | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.images = [Path(file) for file in files]
        self.name = name
        self.fps = FALLBACK_FPS
        self.frame_count = len(self.images)
        self.duration = len(self.images) / FALLBACK_FPS
        self._notes = notes
        self.warnings = list(notes)
        self.damaged: dict[int, str] = {}

    def __iter__(self) -> Iterator[Frame]:
        self.warnings[:] = self._notes
        for index, path in enumerate(self.images):
            shown = one_line(path)
            try:
                data = read_bytes(path)
                image = _decode(data, shown)
            except VideoError as error:
                self.damaged[index] = str(error)
                continue
            if moves(data):
                self.warnings.append(f"{shown}: an animation, of which only the first picture is taken here")
            yield Frame(index, index / self.fps, image)


class Array:
    """A clip that is in memory: images (N, H, W, 3), uint8 RGB, at ``fps`` frames a second.

    Raises TypeError or ValueError that names the argument.
    """

    name = None
    consecutive = True
    live = False

    def __init__(self, images: Image, fps: float = FALLBACK_FPS) -> None:
        if images.ndim != 4:
            raise ValueError(f"clip: got an array of shape {images.shape}; {WANTED} (N, H, W, 3)")
        if not len(images):
            raise ValueError(f"clip: got no image; {WANTED} (N, H, W, 3)")
        check_image(images[0], "clip[0]")
        if not 0 < fps < math.inf:
            raise ValueError(f"fps: got {fps}; frames a second, above 0, are wanted")
        self._images = images
        self.fps = fps
        self.frame_count = len(images)
        self.duration = len(images) / fps
        self.warnings: list[str] = []
        self.damaged: dict[int, str] = {}

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            yield Frame(index, index / self.fps, image)


class Stream:
    """Frames from anything that can be iterated over: each a Frame, a time in seconds with an image, or an image.

    Images are uint8 RGB (H, W, 3); those without times come at FALLBACK_FPS. Iterating raises TypeError or ValueError
    that names the frame.

    source: a generator or another iterator can be read once; a list, as often as is wanted.
    """

    name = None
    fps = None
    frame_count = None
    duration = None
    consecutive = True
    live = False

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source
        self._read = False
        self.warnings: list[str] = []
        self.damaged: dict[int, str] = {}

    def __iter__(self) -> Iterator[Frame]:
        frames = iter(self._source)
        if frames is self._source and self._read:
            raise ValueError("clip: an iterator can be read once; for more, give a list or an array")
        self._read = True
        last = Frame(-1, -math.inf, np.zeros((0, 0, 3), np.uint8))
        for number, item in enumerate(frames):
            frame = _frame(item, number)
            check_image(frame.image, f"clip[{number}]")
            if frame.index <= last.index:
                raise ValueError(f"clip[{number}]: got frame {frame.index} after {last.index}; wanted rising numbers")
            if not last.time < frame.time < math.inf:
                raise ValueError(f"clip[{number}]: got {frame.time} s after {last.time} s; wanted rising times")
            yield frame
            last = frame


def _frame(item: Any, number: int) -> Frame:
    if isinstance(item, Frame):
        return item
    if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], (int, float, np.number)):
        return Frame(number, float(item[0]), item[1])
    return Frame(number, number / FALLBACK_FPS, item)


def check_image(image: Any, name: str, wanted: str = f"{WANTED} (H, W, 3)") -> None:
    """Raises TypeError or ValueError, with ``name`` and what is ``wanted``, for what is no uint8 image (H, W, 3)."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name}: got {type(image).__name__}; {wanted}")
    if image.dtype != np.uint8:
        raise TypeError(f"{name}: got dtype {image.dtype}; {wanted}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{name}: got shape {image.shape}; {wanted}")
