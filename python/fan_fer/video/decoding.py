"""Videos and still images as streams of RGB frames with times."""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fan_fer.base.errors import VideoError
from fan_fer.video.opencv import quiet_opencv

VIDEO_SUFFIXES = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv")
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

FALLBACK_FPS = 25.0


@dataclass(frozen=True)
class Frame:
    """One decoded frame: its number from 0, its time in seconds, its uint8 RGB image (H, W, 3)."""

    index: int
    time: float
    image: np.ndarray


class Video:
    """A video file, read as a stream; a still image is a clip of one frame at time 0.

    Iterating decodes one frame at a time and holds no other; every iteration starts at the first frame. Images
    are upright: the rotation a phone writes into the file is applied. Times are the container's where it has
    them, else one frame period after the frame before; they increase strictly.

    Attributes:
        path: the file.
        fps: the container's frame rate; FALLBACK_FPS where it gives none, or one that is not in (0, 1000].
        frame_count: the number of frames the container claims, which need not be true; None if it claims none.
        warnings: one line for each thing that was wrong with the file, known after an iteration to the end.

    Raises:
        VideoError: the file is missing, not readable, not a video, or has no frame that can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.fps = FALLBACK_FPS
        self.frame_count: int | None = None
        self.warnings: list[str] = []
        if not self.path.exists():
            raise VideoError(f"{self.path}: no such file")
        if not self.path.is_file():
            raise VideoError(f"{self.path}: not a file; a video, or a folder with videos in it, is wanted")
        if not os.access(self.path, os.R_OK):
            raise VideoError(f"{self.path}: no permission to read it")
        if self.path.stat().st_size == 0:
            raise VideoError(f"{self.path}: the file is empty")
        if self._is_image:
            self.frame_count = 1
            read_image(self.path)
            return
        with quiet_opencv():
            capture = self._open()
            decodes = capture.grab()
            fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            capture.release()
        if not decodes:
            raise VideoError(f"{self.path}: no frame of this video can be decoded")
        if math.isfinite(fps) and 0 < fps <= 1000:
            self.fps = fps
        if 0 < count < 1e9:
            self.frame_count = int(count)

    def __iter__(self) -> Iterator[Frame]:
        if self._is_image:
            yield Frame(0, 0.0, read_image(self.path))
            return
        self.warnings.clear()
        with quiet_opencv():
            capture = self._open()
        try:
            index, time = 0, -1 / self.fps
            while True:
                # Not around the yield: what the caller does meanwhile keeps its own log level.
                with quiet_opencv():
                    decoded, image = capture.read()
                if not decoded:
                    break
                position = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                known = math.isfinite(position) and position >= 0 and position > time
                time = position if known else time + 1 / self.fps
                yield Frame(index, time, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                index += 1
        finally:
            capture.release()
        # Counts are a few frames off in good files too (edit lists, estimates from the duration).
        if self.frame_count is not None and index < 0.95 * self.frame_count - 1:
            self.warnings.append(
                f"{self.path}: incomplete or damaged: {index} of {self.frame_count} frames could be read"
            )

    def read(self, indices: Iterable[int]) -> dict[int, np.ndarray]:
        """The images of the frames numbered `indices`; numbers beyond the end are left out.

        Decodes from the start up to the last of them, because seeking lands beside the frame in many files.
        """
        wanted = set(indices)
        images: dict[int, np.ndarray] = {}
        if wanted:
            for frame in self:
                if frame.index in wanted:
                    images[frame.index] = frame.image
                if frame.index >= max(wanted):
                    break
        return images

    @property
    def _is_image(self) -> bool:
        return self.path.suffix.lower() in IMAGE_SUFFIXES

    def _open(self) -> cv2.VideoCapture:
        # FFmpeg by name: left to choose, OpenCV takes a file name with digits for a series of images.
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise VideoError(f"{self.path}: not a video, or a damaged one")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture


def ahead(frames: Iterable[Frame], count: int = 4) -> Iterator[Frame]:
    """The frames, decoded by another thread while the caller works on those before: at most ``count`` are held."""
    ready: queue.Queue[Frame | BaseException | None] = queue.Queue(count)
    left = threading.Event()

    def put(item: Frame | BaseException | None) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def decode() -> None:
        try:
            for frame in frames:
                put(frame)
                if left.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=decode, name="decoder", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join()


class ImageSequence:
    """The images of one clip, read as a stream at FALLBACK_FPS. Damaged ones are left out, and so are their numbers.

    Attributes:
        images: the files, in the order of the frames.
        fps: FALLBACK_FPS.
        damaged: numbers of the frames that iterating so far could not read, and what was wrong with each.
    """

    def __init__(self, images: Sequence[str | os.PathLike[str]]) -> None:
        self.images = [Path(image) for image in images]
        self.fps = FALLBACK_FPS
        self.damaged: dict[int, str] = {}

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.images):
            try:
                image = read_image(path)
            except VideoError as error:
                self.damaged[index] = str(error)
            else:
                yield Frame(index, index / self.fps, image)


def read_image(path: Path) -> np.ndarray:
    """A still image as uint8 RGB (H, W, 3), upright. Raises VideoError."""
    try:
        with quiet_opencv():
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)  # applies the EXIF orientation
    except cv2.error:  # larger than OpenCV accepts
        image = None
    if image is None:
        raise VideoError(f"{path}: not an image, or a damaged one")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def list_videos(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as given; for a folder, the videos in it and below, known by their suffix, in the order of names.

    A folder without a video stays in the list, so that opening it tells the user.
    """
    videos: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
            videos += sorted(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES) or [path]
        else:
            videos.append(path)
    return videos
