"""The faces of a clip as its frames come: where they are, what they look like, and each one cut out and aligned."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.timing import Profile
from fan_fer.faces.align import align_face
from fan_fer.faces.appearance import Appearance, appearance
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.following import FaceFinder
from fan_fer.video.ahead import ahead, latest
from fan_fer.video.frame import FALLBACK_FPS, Clip, Frame

Image = NDArray[np.uint8]
Template = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class FrameFaces:
    """A frame and the n faces in it whose landmarks make a face.

    faces, crops, looks: of each face where it is, the aligned crop (size, size, 3), and what the person looks like.
    change: of the picture since the frame before, as for :class:`fan_fer.faces.following.FaceFinder`.
    """

    frame: Frame
    faces: Sequence[Face]
    crops: Sequence[Image]
    looks: Sequence[Appearance]
    change: float = 0.0


def find_faces(
    clip: Clip,
    detector: Detector,
    size: int,
    template: Template,
    profile: Profile | None = None,
    *,
    keep_up: bool = False,
) -> Generator[FrameFaces, None, None]:
    """Every frame that can be read, with all faces in it. Holds a few frames at a time.

    size, template: as for ``fan_fer.faces.align.align_face``.
    keep_up: leaves out the frames of a live clip that a newer one has overtaken.
    """
    profile = profile or Profile()
    finder = FaceFinder(detector, clip.consecutive)
    beside = latest if keep_up and clip.live else ahead
    with closing(beside(profile.each("decode", clip))) as frames:
        for frame in frames:
            with profile.measure("detect"):
                found = finder(frame.image, frame.time)
            with profile.measure("align"):
                faces, crops = _cut_out(frame.image, found, size, template)
                looks = [appearance(frame.image, face) for face in faces]
            yield FrameFaces(frame, faces, crops, looks, finder.change)


def known_faces(
    clip: Clip,
    faces: Sequence[Face | None],
    size: int,
    template: Template,
    profile: Profile | None = None,
) -> Generator[FrameFaces, None, None]:
    """As :func:`find_faces`, with the one face that each frame is known to have, or none. Looks are not told."""
    profile = profile or Profile()
    with closing(ahead(profile.each("decode", clip))) as frames:
        for frame in frames:
            known = faces[frame.index] if frame.index < len(faces) else None
            with profile.measure("align"):
                yield FrameFaces(frame, *_cut_out(frame.image, [known] if known else [], size, template), looks=())


def frame_times(times: Mapping[int, float], damaged: Iterable[int]) -> list[tuple[int, float]]:
    """Number and time of every frame from ``times`` of those that were read; the damaged ones lie between them."""
    numbers = np.arange(max([*times, *damaged]) + 1)
    known = list(times)
    step = (times[known[-1]] - times[known[0]]) / (known[-1] - known[0]) if len(known) > 1 else 1 / FALLBACK_FPS
    inner = np.interp(numbers, known, list(times.values()))
    outside = (numbers - np.clip(numbers, known[0], known[-1])) * step
    return list(zip(numbers.tolist(), (inner + outside).tolist(), strict=True))


def _cut_out(image: Image, faces: Iterable[Face], size: int, template: Template) -> tuple[list[Face], list[Image]]:
    places = np.asarray(template, np.float32)
    kept, crops = [], []
    for face in faces:
        try:
            crops.append(align_face(image, face.landmarks, size, places))
        except ValueError:  # its landmarks make no face
            continue
        kept.append(face)
    return kept, crops
