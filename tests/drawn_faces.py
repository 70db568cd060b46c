"""Schematic faces with expressions, and the detector that finds them. Worker processes import this by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.face import Face

SIZE = (96, 80)  # of a picture: width, height
NEUTRAL = {"brows": 0.0, "slope": 0.0, "eyes": 1.0, "smile": 0.0, "mouth": 0.0, "skew": 0.0, "nose": 0.0}
EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "Angry": {"brows": -0.7, "slope": 1.0, "eyes": 0.7},
    "Contempt": {"skew": 1.0, "slope": 0.3},
    "Disgust": {"nose": 1.0, "eyes": 0.4, "smile": -0.6},
    "Fear": {"brows": 0.8, "slope": -0.8, "eyes": 1.5, "mouth": 0.4, "smile": -0.5},
    "Happy": {"smile": 1.0, "mouth": 0.2, "eyes": 0.8},
    "Neutral": {},
    "Sad": {"slope": -1.0, "smile": -1.0, "eyes": 0.6},
    "Surprise": {"brows": 1.0, "eyes": 1.6, "mouth": 1.0},
}
"""How each differs from a neutral face: brows raised, sloping inwards; eyes open; mouth corners up, mouth open, mouth
pulled to one side; nose wrinkled."""


class DrawnFaces:
    """Takes every bright disc for a face; its landmarks are where the drawing has them.

    delay: seconds that a picture takes at least.
    dies: a file; where it is missing the process makes it and is killed.
    deadly: whether a white picture kills the process.
    """

    name = "drawn"

    def __init__(self, delay: float = 0, dies: Path | None = None, deadly: bool = False) -> None:
        self.delay, self.dies, self.deadly = delay, dies, deadly

    def detect(self, image: np.ndarray) -> list[Face]:
        time.sleep(self.delay)
        if self.dies is not None and not self.dies.exists():
            self.dies.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deadly and image.min() > 240:
            os.kill(os.getpid(), signal.SIGKILL)
        bright = (image.max(axis=-1) > 110).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        return [_face(*map(float, box[:4])) for box in stats[1:] if box[2:4].min() >= 16]


def draw_face(expression: str, strength: float, person: int, *, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """An RGB picture (80, 96, 3) of a face; strength 0 is neutral, 1 the full expression.

    person: gives the face its size, brightness, place and line width.
    shift: pixels that the face is away from that place.
    """
    looks = np.random.default_rng(person)
    side = looks.uniform(44, 60)
    x, y = np.array(SIZE) / 2 - side / 2 + looks.uniform(-4, 4, 2) + shift
    skin = looks.uniform(170, 235) * np.array([1, looks.uniform(0.8, 0.95), looks.uniform(0.7, 0.9)])
    width = int(looks.integers(2, 4))
    target = EXPRESSIONS[expression]
    shape = {name: rest + strength * (target.get(name, rest) - rest) for name, rest in NEUTRAL.items()}

    image = np.full((SIZE[1], SIZE[0], 3), looks.uniform(20, 60), np.uint8)

    def at(u: float, v: float) -> tuple[int, int]:
        """A place in the face, in sixteenths of a pixel as OpenCV wants it."""
        return round((x + u * side) * 16), round((y + v * side) * 16)

    def line(*points: tuple[float, float]) -> None:
        path = np.array([at(*point) for point in points], np.int32)
        cv2.polylines(image, [path], False, (30, 30, 30), width, cv2.LINE_AA, 4)

    def disc(u: float, v: float, across: float, high: float, colour: tuple[float, ...] = (30, 30, 30)) -> None:
        axes = round(across * side * 16), max(round(high * side * 16), 8)
        cv2.ellipse(image, at(u, v), axes, 0, 0, 360, colour, -1, cv2.LINE_AA, 4)

    disc(0.5, 0.5, 0.5, 0.5, tuple(skin))
    (left, right, nose, *corners), inner = TEMPLATE.tolist(), 0.07
    for (u, v), inwards in ((left, 1), (right, -1)):
        disc(u, v, 0.055, 0.05 * shape["eyes"])
        brow, tilt = v - 0.13 - 0.06 * shape["brows"], 0.06 * shape["slope"]
        line((u - inwards * inner * 1.3, brow - tilt), (u + inwards * inner * 1.3, brow + tilt))
    line((0.5, nose[1] - 0.1), tuple(nose))
    for step in (0.0, 0.05) if shape["nose"] > 0.3 else ():
        line((0.5 - 0.08, nose[1] - 0.14 + step), (0.5 + 0.08, nose[1] - 0.14 + step))
    (u0, v0), (u1, v1) = corners
    bend = 0.09 * shape["smile"]
    lips = np.linspace(-1, 1, 9)
    pull = 0.1 * shape["skew"]
    line(*((u0 + (u1 - u0) * (t + 1) / 2, (v0 + v1) / 2 - bend * (t * t - 0.5) - pull * (t + 1) / 2) for t in lips))
    if shape["mouth"] > 0.05:
        disc(0.5, (v0 + v1) / 2 + bend * 0.5, 0.11, 0.13 * shape["mouth"])
    return image


def _face(x: float, y: float, width: float, height: float) -> Face:
    landmarks = np.asarray(TEMPLATE) * (width, height) + (x, y)
    return Face((x, y, width, height), landmarks.astype(np.float32), 1.0)
