"""The faces of a clip, frame by frame: looked for in the whole picture every few frames, followed in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from fan_fer.base.opencv import cv2
from fan_fer.faces.appearance import REGION
from fan_fer.faces.face import Detector, Face

INTERVAL = 1 / 3  # seconds between two looks at the whole picture
LONG_INTERVAL = 1.0  # where nothing has changed beside the faces that are known
CUT = 25.0  # change of the picture from one frame to the next that is another shot's
THUMBNAIL = (32, 18)
STILL = 8  # change of a thumbnail's pixel up to which it is noise; a new face makes a larger one


@runtime_checkable
class Follower(Protocol):
    """A detector that finds known faces again at a fraction of the cost."""

    def follow(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        """Each of ``faces``, from the frame before, in ``image``; None for one that it is not sure of."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A detector that is quicker with ``together`` images at a time, where that is above 1."""

    together: int

    def detect_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces in each image."""
        ...


class FaceFinder:
    """Finds the faces of one clip; call it with its frames in order.

    The whole picture is searched every third of a second, or every second while nothing changes beside the known faces;
    at a cut; and whenever no face is known or one is lost. Every frame is searched with a detector that cannot follow
    faces, and where frames are not ``consecutive``.

    Attributes:
        follows: whether known faces are followed.
        change: of the picture from the last frame but one to the last: the mean over a thumbnail's pixels, 0 to 255;
            0 for the first frame.
    """

    def __init__(self, detector: Detector, consecutive: bool = True) -> None:
        self._detector = detector
        self._follower = detector if consecutive and isinstance(detector, Follower) else None
        self.follows = self._follower is not None
        self._searched = self._before = -np.inf  # times of the last search and of the last frame
        self._faces: list[Face] = []
        self._thumbnail = self._at_search = np.empty(0, np.int16)  # of the last frame, and of the last one searched
        self.change = 0.0

    def __call__(self, image: np.ndarray, time: float, found: list[Face] | None = None) -> list[Face]:
        """The faces in a uint8 RGB image (H, W, 3), ``time`` seconds from the start; ``found`` where it is searched."""
        self.change = self._changes(image)
        interval = LONG_INTERVAL if self._is_still(image.shape) else INTERVAL
        # The frame nearest to the end of the interval: half a step before it, the next one would be further.
        due = time - self._searched + (time - self._before) / 2 >= interval
        self._before = time
        followed = found
        if found is None and self._follower is not None and self._faces and not due and self.change <= CUT:
            followed = [face for face in self._follower.follow(image, self._faces) if face is not None]
        if found is None and (followed is None or len(followed) < len(self._faces)):
            followed = self._detector.detect(image)
            self._searched, self._at_search = time, self._thumbnail
        self._faces = followed or []
        return self._faces

    def _changes(self, image: np.ndarray) -> float:
        rows = image[:: max(1, len(image) // (4 * THUMBNAIL[1]))]  # enough of them to tell what changes
        before, thumbnail = self._thumbnail, cv2.resize(rows, THUMBNAIL, interpolation=cv2.INTER_AREA)
        self._thumbnail = thumbnail.astype(np.int16)
        return float(np.abs(self._thumbnail - before).mean()) if before.size else 0.0

    def _is_still(self, shape: Sequence[int]) -> bool:
        """Whether nothing has changed since the last search but the faces that are known and what is around them."""
        if not self._at_search.size:
            return False
        changed = np.abs(self._thumbnail - self._at_search).max(-1) > STILL
        side, above, below = REGION
        across, down = THUMBNAIL[0] / shape[1], THUMBNAIL[1] / shape[0]
        for face in self._faces:
            x, y, width, height = face.box
            top, bottom = (y - above * height) * down, (y + (1 + below) * height) * down
            left, right = (x - side * width) * across, (x + (1 + side) * width) * across
            changed[max(0, int(top)) : max(0, int(bottom) + 1), max(0, int(left)) : max(0, int(right) + 1)] = False
        return not changed.any()
