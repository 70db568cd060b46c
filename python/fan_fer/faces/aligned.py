"""Frames that are faces already: cut out, upright, one to a frame."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import numpy as np

from fan_fer.base.timing import Profile
from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.clip_faces import FrameFaces, Template
from fan_fer.faces.face import Face
from fan_fer.video.ahead import ahead
from fan_fer.video.frame import Clip


class Aligned:
    """Stands for a detector: every picture is a face, as a whole. It looks for nothing."""

    name = "aligned"

    def detect(self, image: np.ndarray) -> list[Face]:
        return [whole_face(image, TEMPLATE)]


def make_aligned(argument: str, device: str) -> Aligned:
    """For ``load_detector``."""
    return Aligned()


def whole_face(image: np.ndarray, template: Template | np.ndarray) -> Face:
    """The face that a picture (H, W, 3) is, its landmarks where alignment puts them: nobody has looked."""
    height, width = image.shape[:2]
    landmarks = np.asarray(template, np.float32) * np.array([width, height], np.float32)
    return Face((0.0, 0.0, float(width), float(height)), landmarks, 1.0)


def whole_frames(clip: Clip, template: Template, profile: Profile | None = None) -> Generator[FrameFaces, None, None]:
    """As :func:`fan_fer.faces.clip_faces.find_faces`, each frame as it is for its one face. Looks are not told."""
    profile = profile or Profile()
    with closing(ahead(profile.each("decode", clip))) as frames:
        for frame in frames:
            yield FrameFaces(frame, [whole_face(frame.image, template)], [frame.image], looks=())
