"""The aligned faces of the person in a short clip, for those who want no more of it."""

from __future__ import annotations

from fan_fer.faces.clip_faces import Image, Template, find_faces
from fan_fer.faces.face import Detector
from fan_fer.faces.tracking import Tracker
from fan_fer.video.frame import Clip


def subject_crops(clip: Clip, detector: Detector, size: int, template: Template) -> dict[int, Image]:
    """By frame number, the face of the person whom a recognizer would choose; meanwhile everyone's are held.

    size, template: as for ``fan_fer.faces.align.align_face``.
    """
    tracker = Tracker()
    crops: list[Image] = []
    for seen in find_faces(clip, detector, size, template):
        tracker.add(seen.frame.index, seen.frame.time, seen.faces, seen.looks, seen.change)
        crops += seen.crops
    people = tracker.people()
    return {sighting.frame: crops[sighting.row] for sighting in people[0]} if people else {}
