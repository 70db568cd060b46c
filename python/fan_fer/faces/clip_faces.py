"""The subject of a clip, or everyone in it: whose face is where in every frame, and those faces cut out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.timing import Profile
from fan_fer.faces.align import align_face
from fan_fer.faces.appearance import Appearance, appearance
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.following import FaceFinder
from fan_fer.faces.tracking import find_people, select_subject
from fan_fer.video.ahead import ahead
from fan_fer.video.frame import FALLBACK_FPS, Clip

Image = NDArray[np.uint8]


def find_subject(
    clip: Clip,
    detector: Detector,
    report: Callable[[int], None] | None = None,
    profile: Profile | None = None,
) -> tuple[list[float], list[Face | None]]:
    """The time of every frame and the subject's face in it; None where it is absent or the frame is damaged.

    Holds a few frames at a time. ``report`` is called after each with how many are done.
    """
    times, faces, _ = _find_faces(clip, detector, report, profile or Profile())
    return times, select_subject(faces, (clip.fps or FALLBACK_FPS))


def find_everyone(
    clip: Clip, detector: Detector, report: Callable[[int], None] | None = None, profile: Profile | None = None
) -> tuple[list[float], list[list[Face | None]]]:
    """As :func:`find_subject`, for every person: the one with the largest total area of the face first.

    Holds a few frames at a time, and 60 bytes for the looks of each face.
    """
    times, faces, looks = _find_faces(clip, detector, report, profile or Profile(), looks=True)
    return times, find_people(faces, looks, (clip.fps or FALLBACK_FPS))


def _find_faces(
    clip: Clip,
    detector: Detector,
    report: Callable[[int], None] | None,
    profile: Profile,
    looks: bool = False,
) -> tuple[list[float], list[list[Face]], list[list[Appearance]]]:
    """The time of every frame, all faces in it, and what they look like if that is wanted."""
    times: list[float] = []
    faces: list[list[Face]] = []
    seen: list[list[Appearance]] = []
    # The images of a sequence need not follow each other in time: every one is searched.
    find = FaceFinder(detector, (clip.fps or FALLBACK_FPS)) if clip.consecutive else detector.detect
    for frame in ahead(profile.each("decode", clip)):
        while len(times) < frame.index:  # damaged images before this one
            times.append(len(times) / (clip.fps or FALLBACK_FPS))
            faces.append([])
        times.append(frame.time)
        with profile.measure("detect"):
            faces.append(find(frame.image))
            if looks:
                seen.append([appearance(frame.image, face) for face in faces[-1]])
        if report is not None:
            report(len(times))
    return times, faces, seen


def cut_out(
    clip: Clip,
    faces: Sequence[Face | None],
    size: int,
    template: Sequence[tuple[float, float]],
    profile: Profile | None = None,
) -> Iterator[tuple[int, Image | None]]:
    """Every frame's number and the aligned face in it; None where ``faces`` has none or its landmarks make no face.

    size, template: as for ``fan_fer.faces.align.align_face``. Decodes the clip again, a frame at a time.
    """
    for index, (crop,) in cut_out_everyone(clip, [faces], size, template, profile):
        yield index, crop


def cut_out_everyone(
    clip: Clip,
    people: Sequence[Sequence[Face | None]],
    size: int,
    template: Sequence[tuple[float, float]],
    profile: Profile | None = None,
) -> Iterator[tuple[int, list[Image | None]]]:
    """As :func:`cut_out`, for several people at once: every frame's number and one crop per person."""
    profile = profile or Profile()
    places = np.asarray(template, np.float32)

    def cut(image: Image, face: Face | None) -> Image | None:
        try:
            return None if face is None else align_face(image, face.landmarks, size, places)
        except ValueError:
            return None

    for frame in ahead(profile.each("decode", clip)):
        with profile.measure("align"):
            crops = [cut(frame.image, faces[frame.index] if frame.index < len(faces) else None) for faces in people]
        yield frame.index, crops
