"""Which face is the subject of a clip, in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from fan_fer.faces import Face

Box = tuple[float, float, float, float]  # x, y, width, height

MIN_OVERLAP = 0.3  # intersection over union of a face with where its track is expected
MAX_GAP = 0.5  # seconds a track waits for its face
MIN_SECONDS = 0.15  # that a track must be seen: false detections are shorter
MAX_RATIO = 1.8  # between the side of the subject's face and of one that stands in for it


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


@dataclass
class _Track:
    """The faces of one person, by frame number, ascending."""

    faces: dict[int, Face] = field(default_factory=dict)
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels a frame

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

    def add(self, index: int, face: Face) -> None:
        if self.faces:
            before, elapsed = self.faces[self.last].box, index - self.last
            x_step, y_step = ((face.box[i] - before[i]) / elapsed for i in (0, 1))
            self.velocity = (self.velocity[0] + x_step) / 2, (self.velocity[1] + y_step) / 2
        self.faces[index] = face


def _link(faces_per_frame: Sequence[Sequence[Face]], fps: float) -> list[_Track]:
    """Tracks, made by giving each face to the track whose expected place it overlaps most."""
    tracks: list[_Track] = []
    open_tracks: list[_Track] = []
    for index, faces in enumerate(faces_per_frame):
        open_tracks = [track for track in open_tracks if index - track.last <= max(1, MAX_GAP * fps)]
        places = [track.expected(index) for track in open_tracks]
        pairs = [(_overlap(place, face.box), t, f) for t, place in enumerate(places) for f, face in enumerate(faces)]
        taken_tracks, taken_faces = set(), set()
        for overlap, t, f in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= MIN_OVERLAP and t not in taken_tracks and f not in taken_faces:
                open_tracks[t].add(index, faces[f])
                taken_tracks.add(t)
                taken_faces.add(f)
        for f, face in enumerate(faces):
            if f not in taken_faces:
                track = _Track()
                track.add(index, face)
                tracks.append(track)
                open_tracks.append(track)
    return tracks


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)
