"""Which faces of a clip belong to one person, told frame by frame as they come."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fan_fer.faces.appearance import Appearance, difference
from fan_fer.faces.face import Face
from fan_fer.faces.following import CUT

Box = tuple[float, float, float, float]  # x, y, width, height

MIN_OVERLAP = 0.3  # intersection over union of a face with where its track is expected
MAX_GAP = 0.5  # seconds a track waits for its face
LONGEST = 0.2  # seconds that a frame among short ones stands for: what lasts longer is a pause of the recording
MIN_PRESENCE = 0.5  # seconds that a person must be seen: someone half behind another looks like a third for less
MIN_SECONDS = 0.15  # that suffice where nobody is seen for longer: false detections are shorter
MAX_HIDDEN = 2.0  # seconds that a person may be out of sight and keep the number
MAX_SPEED = 4.0  # face widths a second that a person out of sight may move
MAX_RATIO = 1.8  # between the sides of a person's face before and after being out of sight
SAMPLES = 256  # appearances of a person that tell the typical one
MAX_DIFFERENCE = 13.0  # between two appearances of one person: up to 12 in real clips, from 14 between two people


@dataclass(frozen=True, slots=True)
class Sighting:
    """A person's face in a frame.

    frame: the frame's number. time: in seconds.
    row: how many faces the clip has shown before this one, whosever they were.
    box, score: of the face.

    A video of an hour has a hundred thousand of them. Small arrays that stay, between large ones that come and go,
    would spread memory out ever further: what they hold is kept as bytes.
    """

    frame: int
    time: float
    row: int
    box: Box
    score: float
    _landmarks: bytes
    _look: bytes

    @classmethod
    def of(cls, frame: int, time: float, row: int, face: Face, look: Appearance | None = None) -> Sighting:
        landmarks = face.landmarks.astype(np.float32).tobytes()
        return cls(frame, time, row, face.box, face.score, landmarks, b"" if look is None else look.tobytes())

    @property
    def face(self) -> Face:
        return Face(self.box, np.frombuffer(self._landmarks, np.float32).reshape(5, 2), self.score)

    @property
    def look(self) -> Appearance:
        return np.frombuffer(self._look, np.uint8)


Person = list[Sighting]
"""Of one person, by time; at most one a frame."""


class _Frame(NamedTuple):
    number: int
    time: float
    first_row: int  # of its faces


@dataclass
class _Track:
    """Sightings of one person, each near the one before.

    doubtful: of a face where the person stood, that does not resemble them. They are the person's, behind a hand or a
        microphone, if the person is seen again soon; else somebody else's.
    """

    sightings: list[Sighting] = field(default_factory=list)
    doubtful: list[Sighting] = field(default_factory=list)
    velocity: tuple[float, float] = (0.0, 0.0)  # pixels a second
    look: np.ndarray | None = None  # running mean

    @property
    def first(self) -> Sighting:
        return self.sightings[0]

    @property
    def last(self) -> Sighting:
        return self.sightings[-1]

    def expected(self, time: float) -> Box:
        """Where the face should be at a time if it goes on moving as it did: faces that cross stay apart."""
        last = (self.doubtful or self.sightings)[-1]
        x, y, width, height = last.box
        elapsed = time - last.time
        return x + self.velocity[0] * elapsed, y + self.velocity[1] * elapsed, width, height

    def differs(self, look: Appearance) -> float:
        return 0.0 if self.look is None else difference(self.look, look)

    def add(self, sighting: Sighting) -> None:
        if self.sightings:
            last = (self.doubtful or self.sightings)[-1]
            before, elapsed = last.box, max(sighting.time - last.time, 1e-9)
            x_step, y_step = ((sighting.box[i] - before[i]) / elapsed for i in (0, 1))
            self.velocity = (self.velocity[0] + x_step) / 2, (self.velocity[1] + y_step) / 2
        if self.differs(sighting.look) > MAX_DIFFERENCE:
            self.doubtful.append(sighting)
            return
        look = sighting.look.astype(np.float32)
        self.look = look if self.look is None else 0.8 * self.look + 0.2 * look
        self.sightings += [*self.doubtful, sighting]
        self.doubtful = []

    def split(self) -> list[_Track]:
        """What is sure, and what is doubtful as tracks of their own."""
        tracks = [_Track(self.sightings, [], self.velocity, self.look)]
        for sighting in self.doubtful:
            if len(tracks) == 1 or tracks[-1].differs(sighting.look) > MAX_DIFFERENCE:
                tracks.append(_Track())
            tracks[-1].add(sighting)
        return tracks


class Tracker:
    """Makes tracks of the faces of a clip's frames, and people of the tracks.

    A face goes to the track whose expected place it overlaps most, if it resembles it; of two that it overlaps alike,
    to the one it resembles more. Where no other is near and there is no cut, it need not resemble it for half a second.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []  # that have ended
        self._open: list[_Track] = []  # that may go on
        self._frames: list[_Frame] = []
        self._cuts: list[float] = []  # times of the first frames after them
        self._rows = 0

    def add(
        self, frame: int, time: float, faces: Sequence[Face], looks: Sequence[Appearance], change: float = 0.0
    ) -> None:
        """Takes the faces of the next frame, and by how much its picture changed (0 to 255)."""
        before = self._frames[-1].number if self._frames else frame
        self._frames.append(_Frame(frame, time, self._rows))
        if change > CUT:
            self._cuts.append(time)
        seen = [
            Sighting.of(frame, time, self._rows + number, face, look)
            for number, (face, look) in enumerate(zip(faces, looks, strict=True))
        ]
        self._rows += len(seen)
        self._close(time, before, cut=change > CUT)
        taken_tracks, taken = set(), set()
        for _, t, f in sorted(self._pairs(time, seen), key=lambda pair: -pair[0]):
            if t not in taken_tracks and f not in taken:
                self._open[t].add(seen[f])
                taken_tracks.add(t)
                taken.add(f)
        for f, sighting in enumerate(seen):
            if f not in taken:
                track = _Track()
                track.add(sighting)
                self._open.append(track)

    def _close(self, time: float, before: int, cut: bool) -> None:
        """Ends the tracks that have waited for too long, and those that a cut leaves in doubt."""
        tracks, self._open = self._open, []
        for track in tracks:
            # Where a second has few frames, a track waits for one of them.
            waits = time - track.last.time <= MAX_GAP + 1e-9 or track.last.frame == before
            if waits and not (cut and track.doubtful):
                self._open.append(track)
            else:
                for part in track.split():
                    (self._open if part.last.frame == before else self._tracks).append(part)

    def _pairs(self, time: float, seen: Sequence[Sighting]) -> list[tuple[float, int, int]]:
        """Which open track each face may belong to, and how well it fits: fit, track, face."""
        near = [
            (t, f, overlap)
            for t, place in enumerate(track.expected(time) for track in self._open)
            for f, sighting in enumerate(seen)
            if (overlap := _overlap(place, sighting.box)) >= MIN_OVERLAP
        ]
        cut = bool(self._cuts) and self._cuts[-1] == time
        pairs = []
        for t, f, overlap in near:
            differs = self._open[t].differs(seen[f].look)
            alone = sum(t == other for other, _, _ in near) == sum(f == other for _, other, _ in near) == 1
            soon = time - self._open[t].last.time <= MAX_GAP + 1e-9
            if differs <= MAX_DIFFERENCE or (alone and soon and not cut):
                pairs.append((overlap - differs / MAX_DIFFERENCE, t, f))
        return pairs

    def forget(self, before: float) -> None:
        """Drops everything earlier than ``before`` seconds."""
        self._frames = self._frames[bisect_left(self._frames, before, key=lambda frame: frame.time) :]
        self._cuts = self._cuts[bisect_left(self._cuts, before) :]
        for track in (*self._tracks, *self._open):
            for kept in (track.sightings, track.doubtful):
                del kept[: bisect_left(kept, before, key=lambda sighting: sighting.time)]
        self._tracks = [track for track in self._tracks if track.sightings]
        self._open = [track for track in self._open if track.sightings]

    @property
    def first_row(self) -> int:
        """Of the faces not forgotten, the first one's row."""
        return self._frames[0].first_row if self._frames else self._rows

    def people(self) -> list[Person]:
        """Everyone, the largest total area of the face first.

        A track that begins within two seconds after another one has ended, not too far from there, of similar size and
        looks, is the same person come back into sight; and so is one after a cut that looks alike, wherever it is and
        however long that took. One seen for less than half a second of a longer clip is left out, unless there is
        nobody else.
        """
        tracks = [*self._tracks, *(part for track in self._open for part in track.split())]
        people = _across_cuts(_join(sorted(tracks, key=lambda track: track.first.time)), self._cuts)
        lasting = _spans([frame.time for frame in self._frames])
        spans = {frame.number: seconds for frame, seconds in zip(self._frames, lasting, strict=True)}
        whole = sum(spans.values())
        for shortest in (MIN_PRESENCE, MIN_SECONDS):
            enough = min(shortest, whole / 4) - 1e-9
            present = [person for person in people if sum(spans[seen.frame] for seen in person) >= enough]
            if present:
                return sorted(present, key=_area, reverse=True)
        return []


def _spans(times: Sequence[float]) -> list[float]:
    """How many seconds each frame stands for: until the next, where no pause is between them."""
    if len(times) < 2:
        return [1.0] * len(times)
    steps = np.diff(times)
    typical = float(np.median(steps))
    return [float(step) for step in np.minimum([*steps, typical], max(typical, LONGEST))]


def _area(person: Person) -> float:
    return sum(seen.box[2] * seen.box[3] for seen in person)


def _join(tracks: Sequence[_Track]) -> list[Person]:
    """Tracks, in the order of time, put together: each goes on in at most one other, those most alike first."""
    typical = [_typical_look(track.sightings) for track in tracks]
    begins = [track.first.time for track in tracks]
    pairs = []
    for a, before in enumerate(tracks):
        end = before.last.time
        for b in range(bisect_right(begins, end), bisect_right(begins, end + MAX_HIDDEN)):
            differs = difference(typical[a], typical[b])
            if differs <= MAX_DIFFERENCE and _within_reach(before.last, tracks[b].first):
                pairs.append((differs, a, b))
    successors: dict[int, int] = {}
    taken: set[int] = set()
    for _, a, b in sorted(pairs):
        if a not in successors and b not in taken:
            successors[a] = b
            taken.add(b)
    people = []
    for start in sorted(set(range(len(tracks))) - taken):
        step: int | None = start
        person: Person = []
        while step is not None:
            person += tracks[step].sightings
            step = successors.get(step)
        people.append(person)
    return people


def _across_cuts(people: list[Person], cuts: Sequence[float]) -> list[Person]:
    """Those put together who look alike, are never seen in one frame, and have a cut between them."""
    if not cuts:
        return people
    looks = np.array([_typical_look(person) for person in people], np.float32)
    pairs = []
    for b, after in enumerate(people):
        differences = np.abs(looks[:b] - looks[b]).mean(axis=1)
        for a in np.flatnonzero(differences <= MAX_DIFFERENCE).tolist():
            if _cut_between(people[a], after, cuts):
                pairs.append((float(differences[a]), a, b))
    groups = [[number] for number in range(len(people))]
    frames = [{seen.frame for seen in person} for person in people]
    for _, a, b in sorted(pairs):
        if groups[a] is not groups[b] and frames[a].isdisjoint(frames[b]):
            groups[a] += groups[b]
            frames[a] |= frames[b]
            for member in groups[a]:
                groups[member], frames[member] = groups[a], frames[a]
    together = {min(group): group for group in groups}
    return [
        sorted((seen for member in group for seen in people[member]), key=lambda seen: seen.frame)
        for group in together.values()
    ]


def _cut_between(a: Person, b: Person, cuts: Sequence[float]) -> bool:
    first, second = (a, b) if a[0].time <= b[0].time else (b, a)
    return bisect_right(cuts, first[-1].time) < bisect_right(cuts, second[0].time)


def _typical_look(person: Person) -> np.ndarray:
    some = person[:: math.ceil(len(person) / SAMPLES)]
    return np.asarray(np.median([seen.look for seen in some], axis=0))


def _within_reach(before: Sighting, after: Sighting) -> bool:
    """Whether one face can have gone from the end of a track to the beginning of another in the time between."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = before.box, after.box
    distance = math.hypot(x1 + w1 / 2 - x0 - w0 / 2, y1 + h1 / 2 - y0 - h0 / 2)
    width = max(w0, w1, 1e-6)
    hidden = after.time - before.time
    return distance <= (1 + MAX_SPEED * hidden) * width and width <= MAX_RATIO * min(w0, w1)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)
