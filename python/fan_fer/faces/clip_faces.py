"""The faces of a clip as its frames come: where they are, what they look like, and each one cut out and aligned."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import DetectorError
from fan_fer.base.timing import Profile
from fan_fer.faces.align import align_face
from fan_fer.faces.appearance import Appearance, appearance
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.following import Batched, FaceFinder
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
    at_once: bool = False,
) -> Generator[FrameFaces, None, None]:
    """Every frame that can be read, with all faces in it. Holds a few frames at a time.

    size, template: as for ``fan_fer.faces.align.align_face``.
    at_once: each frame before the next one is searched, even where the detector is quicker with several; and of a live
        clip not those that a newer one has overtaken. Otherwise other threads read and search ahead.
    Raises DetectorError where the detector gives numbers that are not finite.
    """
    profile = profile or Profile()
    places = _look_through(clip, detector, profile, at_once)
    with closing(places if at_once else ahead(places)) as found_faces:
        for frame, found, change in found_faces:
            with profile.measure("align"):
                faces, crops = _cut_out(frame.image, found, size, template)
                looks = [appearance(frame.image, face) for face in faces]
            yield FrameFaces(frame, faces, crops, looks, change)


def _look_through(
    clip: Clip, detector: Detector, profile: Profile, at_once: bool
) -> Generator[tuple[Frame, list[Face], float], None, None]:
    """Every frame with the faces in it, and how much the picture changed."""
    finder = FaceFinder(detector, clip.consecutive)
    beside = latest if at_once and clip.live else ahead
    with closing(beside(profile.each("decode", clip))) as frames:
        for frame, searched in _searched(frames, detector, profile, at_once or finder.follows):
            with profile.measure("detect"):
                found = finder(frame.image, frame.time, searched)
            if not all(face.is_finite for face in found):
                raise DetectorError(
                    f"detector {detector.name}: its face in frame {frame.index} has numbers that are not finite"
                )
            yield frame, found, finder.change


def _searched(
    frames: Iterator[Frame], detector: Detector, profile: Profile, singly: bool
) -> Iterator[tuple[Frame, list[Face] | None]]:
    """The frames, with their faces where the detector searches several together."""
    if singly or not isinstance(detector, Batched) or detector.together < 2:
        yield from ((frame, None) for frame in frames)
        return
    while batch := list(islice(frames, detector.together)):
        with profile.measure("detect"):
            found = detector.detect_many([frame.image for frame in batch])
        yield from zip(batch, found, strict=True)


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
                kept, crops = _cut_out(frame.image, [known] if known else [], size, template)
            yield FrameFaces(frame, kept, crops, looks=())


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
