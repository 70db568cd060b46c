"""The subject of a clip: whose face it is in every frame, and that face cut out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fan_fer.align import align_face
from fan_fer.faces import Detector, Face
from fan_fer.following import FaceFinder
from fan_fer.profile import Profile
from fan_fer.tracking import select_subject
from fan_fer.video import ImageSequence, Video, ahead

Image = NDArray[np.uint8]


def find_subject(
    clip: Video | ImageSequence,
    detector: Detector,
    report: Callable[[int], None] | None = None,
    profile: Profile | None = None,
) -> tuple[list[float], list[Face | None]]:
    """The time of every frame and the subject's face in it; None where it is absent or the frame is damaged.

    Holds a few frames at a time. ``report`` is called after each with how many are done.
    """
    profile = profile or Profile()
    times: list[float] = []
    faces: list[list[Face]] = []
    # The images of a sequence need not follow each other in time: every one is searched.
    find = FaceFinder(detector, clip.fps) if isinstance(clip, Video) else detector.detect
    for frame in ahead(profile.each("decode", clip)):
        while len(times) < frame.index:  # damaged images before this one
            times.append(len(times) / clip.fps)
            faces.append([])
        times.append(frame.time)
        with profile.measure("detect"):
            faces.append(find(frame.image))
        if report is not None:
            report(len(times))
    return times, select_subject(faces, clip.fps)


def cut_out(
    clip: Video | ImageSequence,
    faces: Sequence[Face | None],
    size: int,
    template: Sequence[tuple[float, float]],
    profile: Profile | None = None,
) -> Iterator[tuple[int, Image | None]]:
    """Every frame's number and the aligned face in it; None where ``faces`` has none or its landmarks make no face.

    size, template: as for ``fan_fer.align.align_face``. Decodes the clip again, a frame at a time.
    """
    profile = profile or Profile()
    places = np.asarray(template, np.float32)
    for frame in ahead(profile.each("decode", clip)):
        face = faces[frame.index] if frame.index < len(faces) else None
        try:
            with profile.measure("align"):
                crop = None if face is None else align_face(frame.image, face.landmarks, size, places)
        except ValueError:
            crop = None
        yield frame.index, crop
