"""Images as clips, through OpenCV: files, arrays, and whatever gives frames one by one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import VideoError
from fan_fer.video.frame import FALLBACK_FPS, Frame
from fan_fer.video.opencv import quiet_opencv
from fan_fer.video.paths import read_bytes

Image = NDArray[np.uint8]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NO_DURATION = 100  # milliseconds that browsers show a picture for which says 0
WANTED = "wanted RGB images of uint8"


def read_image(path: str | os.PathLike[str]) -> Image:
    """A still image as uint8 RGB (H, W, 3), upright; the first of an animated one. Raises VideoError."""
    return _decode(read_bytes(Path(path)), os.fsdecode(path))


def is_image(start: bytes, suffix: str) -> bool:
    """Whether a file that begins like this, and has this suffix, is an image rather than a video.

    An animated PNG is a video, as a GIF is; an animated WebP is not, because FFmpeg reads its first picture alone.
    """
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return b"acTL" not in start.partition(b"IDAT")[0]
    suffix = suffix.lower()
    return (
        suffix in IMAGE_SUFFIXES
        or (start[:3] == b"\xff\xd8\xff" and suffix not in (".mjpeg", ".mjpg"))
        or start[:4] in (b"II*\0", b"MM\0*")
        or (start[:2] == b"BM" and start[6:10] == b"\0\0\0\0")
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
    )


def decode_images(data: bytes, shown: str) -> list[tuple[float, Image]]:
    """The time in seconds and the image, RGB and upright, of every picture in an image file. Raises VideoError."""
    if data[8:16] != b"WEBPVP8X" or not data[20] & 2:
        return [(0.0, _decode(data, shown))]
    with quiet_opencv():
        read, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    if not read or not len(animation.frames):
        raise VideoError(f"{shown}: not an image, or a damaged one")
    times = np.cumsum([0.0, *((duration or NO_DURATION) / 1000 for duration in animation.durations)])
    images = (np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2RGB), np.uint8) for frame in animation.frames)
    return [(float(time), image) for time, image in zip(times, images, strict=False)]


def _decode(data: bytes, shown: str) -> Image:
    try:
        with quiet_opencv():
            # Applies the EXIF orientation.
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # larger than OpenCV accepts
        image = None
    if image is None:
        raise VideoError(f"{shown}: not an image, or a damaged one")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class Images:
    """The images of one clip, read as a stream at FALLBACK_FPS. Damaged ones are left out, and so are their numbers.

    files: the images, in the order of the frames.
    name: what a prediction calls the clip.

    Attributes beside those of :class:`fan_fer.video.frame.Clip`:
        images: the files.
    """

    consecutive = False
    live = False

    def __init__(self, files: Sequence[str | os.PathLike[str]], name: str | None = None) -> None:
        self.images = [Path(file) for file in files]
        self.name = name
        self.fps = FALLBACK_FPS
        self.frame_count = len(self.images)
        self.duration = len(self.images) / FALLBACK_FPS
        self.warnings: list[str] = []
        self.damaged: dict[int, str] = {}

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.images):
            try:
                image = read_image(path)
            except VideoError as error:
                self.damaged[index] = str(error)
            else:
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
