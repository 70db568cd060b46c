"""The faces of a clip, frame by frame: looked for in the whole picture every few frames, followed in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from fan_fer.faces.face import Detector, Face

INTERVAL = 1 / 3  # seconds between two looks at the whole picture
CUT = 25.0  # mean change of a thumbnail's pixels, of 255, from one frame to the next: another shot
THUMBNAIL = (32, 18)


@runtime_checkable
class Follower(Protocol):
    """A detector that finds known faces again at a fraction of the cost."""

    def follow(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        """Each of ``faces``, from the frame before, in ``image``; None for one that it is not sure of."""
        ...


class FaceFinder:
    """Finds the faces of one clip; call it with the uint8 RGB frames (H, W, 3) in order.

    The whole picture is searched every third of a second, at a cut, and whenever no face is known or one is lost.
    With a detector that cannot follow faces, every frame is searched.
    """

    def __init__(self, detector: Detector, fps: float) -> None:
        self._detector = detector
        self._follower = detector if isinstance(detector, Follower) else None
        self._interval = max(1, round(INTERVAL * fps))
        self._since = 0
        self._faces: list[Face] = []
        self._thumbnail: np.ndarray | None = None

    def __call__(self, image: np.ndarray) -> list[Face]:
        if self._follower is None:
            return self._detector.detect(image)
        followed = self._follow(self._follower, image)
        self._faces = self._detector.detect(image) if followed is None else followed
        self._since = 1 if followed is None else self._since + 1
        return self._faces

    def _follow(self, follower: Follower, image: np.ndarray) -> list[Face] | None:
        """The known faces in ``image``; None where the whole picture is to be searched."""
        if self._is_cut(image) or not self._faces or self._since >= self._interval:
            return None
        followed = follower.follow(image, self._faces)
        found = [face for face in followed if face is not None]
        return found if len(found) == len(followed) else None

    def _is_cut(self, image: np.ndarray) -> bool:
        thumbnail = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.int16)
        before, self._thumbnail = self._thumbnail, thumbnail
        return before is not None and float(np.abs(thumbnail - before).mean()) > CUT
