"""Which faces of a clip belong to one person: the subject's, or those of everyone in it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fan_fer.faces.appearance import Appearance, difference
from fan_fer.faces.face import Face

Box = tuple[float, float, float, float]  # x, y, width, height

MIN_OVERLAP = 0.3  # intersection over union of a face with where its track is expected
MAX_GAP = 0.5  # seconds a track waits for its face
MIN_SECONDS = 0.15  # that a track must be seen: false detections are shorter
MAX_RATIO = 1.8  # between the side of the subject's face and of one that stands in for it
MIN_PRESENCE = 0.5  # seconds that a person must be seen: someone half behind another looks like a third for less
MAX_HIDDEN = 2.0  # seconds that a person may be out of sight and keep the number
MAX_SPEED = 4.0  # face widths a second that a person out of sight may move
MAX_DIFFERENCE = 13.0  # between two appearances of one person: up to 12 in real clips, from 14 between two people


def select_subject(faces_per_frame: Sequence[Sequence[Face]], fps: float) -> list[Face | None]:
    """The subject's face in every frame; None where it is absent.

    Faces that overlap from frame to frame make a track; a track of a few frames in a longer clip is a false
    detection and left out. The subject is the track with the largest total area: a large face for most of the
    clip, whichever was found first. Where it is absent (a cut, a re-entry), other tracks of similar size stand in,
    the largest first, if they are never seen together with it.
    """
    frames = len(faces_per_frame)
    shortest = min(MIN_SECONDS * fps, frames / 4)
    tracks = [track for track in _link(faces_per_frame, fps) if len(track.faces) >= shortest]
    tracks.sort(key=lambda track: track.area, reverse=True)
    subject: list[Face | None] = [None] * frames
    for track in tracks:
        similar = 1 / MAX_RATIO < track.side / tracks[0].side < MAX_RATIO
        if similar and all(subject[index] is None for index in track.faces):
            for index, face in track.faces.items():
                subject[index] = face
    return subject


def find_people(
    faces_per_frame: Sequence[Sequence[Face]], looks_per_frame: Sequence[Sequence[Appearance]], fps: float
) -> list[list[Face | None]]:
    """Everyone's face in every frame, None where it is absent: one list per person, the largest total area first.

    looks_per_frame: the appearance of every face. Faces that overlap from frame to frame and look alike make a track,
    as for :func:`select_subject`. A track that begins within two seconds after another one has ended, not too far
    from there, of similar size and looks, is the same person come back into sight. One seen for less than half a
    second of a longer clip is left out.
    """
    frames = len(faces_per_frame)
    people = _join(_link(faces_per_frame, fps, looks_per_frame), fps)
    people = [person for person in people if len(person.faces) >= min(MIN_PRESENCE * fps, frames / 4)]
    people.sort(key=lambda person: person.area, reverse=True)
    return [[person.faces.get(index) for index in range(frames)] for person in people]


@dataclass
class _Track:
    """The faces of one person, by frame number, ascending."""

    faces: dict[int, Face] = field(default_factory=dict)
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels a frame
    looks: list[Appearance] = field(default_factory=list)
    look: NDArray[np.float32] | None = None  # running mean of looks

    @property
    def first(self) -> int:
        return next(iter(self.faces))

    @property
    def last(self) -> int:
        return next(reversed(self.faces))

    @property
    def area(self) -> float:
        return sum(face.box[2] * face.box[3] for face in self.faces.values())

    @property
    def side(self) -> float:
        return max(median(face.box[2] for face in self.faces.values()), 1e-6)

    def expected(self, index: int) -> Box:
        """Where the face should be in frame `index` if it goes on moving as it did: faces that cross stay apart."""
        x, y, width, height = self.faces[self.last].box
        elapsed = index - self.last
        return x + self.velocity[0] * elapsed, y + self.velocity[1] * elapsed, width, height

    def differs(self, look: Appearance | None) -> float:
        """From a face that looks so; 0 where looks are not compared."""
        return 0.0 if look is None or self.look is None else difference(self.look, look)

    def add(self, index: int, face: Face, look: Appearance | None = None) -> None:
        if self.faces:
            before, elapsed = self.faces[self.last].box, index - self.last
            x_step, y_step = ((face.box[i] - before[i]) / elapsed for i in (0, 1))
            self.velocity = (self.velocity[0] + x_step) / 2, (self.velocity[1] + y_step) / 2
        self.faces[index] = face
        if look is not None:
            self.looks.append(look)
            self.look = look.astype(np.float32) if self.look is None else 0.8 * self.look + 0.2 * look


def _link(
    faces_per_frame: Sequence[Sequence[Face]],
    fps: float,
    looks_per_frame: Sequence[Sequence[Appearance]] | None = None,
) -> list[_Track]:
    """Tracks, made by giving each face to the track whose expected place it overlaps most.

    With looks, a face goes to a track that it resembles; of two that it overlaps alike, to the one it resembles more.
    """
    tracks: list[_Track] = []
    open_tracks: list[_Track] = []
    for index, faces in enumerate(faces_per_frame):
        open_tracks = [track for track in open_tracks if index - track.last <= max(1, MAX_GAP * fps)]
        places = [track.expected(index) for track in open_tracks]
        looks = [None] * len(faces) if looks_per_frame is None else looks_per_frame[index]
        pairs = []
        for t, place in enumerate(places):
            for f, face in enumerate(faces):
                overlap, differs = _overlap(place, face.box), open_tracks[t].differs(looks[f])
                if overlap >= MIN_OVERLAP and differs <= MAX_DIFFERENCE:
                    pairs.append((overlap - differs / MAX_DIFFERENCE, t, f))
        taken_tracks, taken_faces = set(), set()
        for _, t, f in sorted(pairs, key=lambda pair: -pair[0]):
            if t not in taken_tracks and f not in taken_faces:
                open_tracks[t].add(index, faces[f], looks[f])
                taken_tracks.add(t)
                taken_faces.add(f)
        for f, face in enumerate(faces):
            if f not in taken_faces:
                track = _Track()
                track.add(index, face, looks[f])
                tracks.append(track)
                open_tracks.append(track)
    return tracks


def _join(tracks: Sequence[_Track], fps: float) -> list[_Track]:
    """The tracks of one person put together: each goes on in at most one later one, those most alike first."""
    typical = [np.median(track.looks, axis=0) for track in tracks]
    begins = [track.first for track in tracks]  # ascending, as the tracks were found
    pairs = []
    for a, before in enumerate(tracks):
        for b in range(bisect_right(begins, before.last), bisect_right(begins, before.last + MAX_HIDDEN * fps)):
            differs = difference(typical[a], typical[b])
            if differs <= MAX_DIFFERENCE and _within_reach(before, tracks[b], (begins[b] - before.last) / fps):
                pairs.append((differs, a, b))
    successors: dict[int, int] = {}
    taken: set[int] = set()
    for _, a, b in sorted(pairs):
        if a not in successors and b not in taken:
            successors[a] = b
            taken.add(b)
    people = []
    for start in sorted(set(range(len(tracks))) - taken):
        person, step = _Track(), start
        while True:
            person.faces |= tracks[step].faces
            if step not in successors:
                break
            step = successors[step]
        people.append(person)
    return people


def _within_reach(before: _Track, after: _Track, hidden: float) -> bool:
    """Whether one face can have gone from the end of a track to the beginning of another in so many seconds."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = before.faces[before.last].box, after.faces[after.first].box
    distance = math.hypot(x1 + w1 / 2 - x0 - w0 / 2, y1 + h1 / 2 - y0 - h0 / 2)
    width = max(w0, w1, 1e-6)
    return distance <= (1 + MAX_SPEED * hidden) * width and width <= MAX_RATIO * min(w0, w1)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)
