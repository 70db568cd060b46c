"""A camera of this computer, through OpenCV: the wheels of PyAV cannot open one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fan_fer.base.errors import VideoError
from fan_fer.base.opencv import cv2, quiet_opencv
from fan_fer.video.frame import Frame

SOONEST = 1e-6  # seconds between two pictures, where the clock is too coarse to tell


class Camera:
    """The camera with this number, 0 being the first. Each iteration opens it and does not end by itself.

    Times are seconds since its first picture. Raises VideoError where there is no such camera.
    """

    fps = None
    frame_count = None
    duration = None
    consecutive = True
    live = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"camera {number}"
        self.warnings: list[str] = []
        self.damaged: dict[int, str] = {}
        self._open().release()

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        try:
            index, seconds = 0, 0.0
            taken, image = capture.read()
            start = time.monotonic()
            while taken:
                yield Frame(index, seconds, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))
                taken, image = capture.read()
                index, seconds = index + 1, max(time.monotonic() - start, seconds + SOONEST)
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        with quiet_opencv():
            try:
                capture = cv2.VideoCapture(self.number)
                opened = capture.isOpened()
            except cv2.error:  # a number larger than OpenCV's
                opened = False
            if not opened:
                raise VideoError(f"{self.name}: no such camera, or another program is using it{_others()}")
        return capture


def _others() -> str:
    """Which cameras there are, where the system tells."""
    if sys.platform != "linux":
        return ""
    found = sorted(map(str, Path("/dev").glob("video*")))
    return f"; there are {', '.join(found)}" if found else "; there is none"
