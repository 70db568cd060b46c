"""A face found in an image, and what finds faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


@dataclass(frozen=True, slots=True)
class Face:
    """One face; lengths in pixels of the image it was found in.

    box: x, y (top left corner), width, height; it may reach beyond the image where the face does.
    landmarks: (5, 2) float32, x and y of the eye at image left, the eye at image right, the nose tip,
        the mouth corner at image left, the mouth corner at image right.
    score: the detector's confidence, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def is_finite(self) -> bool:
        """Whether every number is one."""
        return bool(np.isfinite([*self.box, self.score]).all() and np.isfinite(self.landmarks).all())


class Detector(Protocol):
    """Finds faces in uint8 RGB images (H, W, 3). No face gives an empty list. Every number is finite."""

    name: str

    def detect(self, image: np.ndarray) -> list[Face]: ...
