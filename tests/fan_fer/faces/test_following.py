"""Faces are searched for now and then and followed in between; at cuts and when one is lost, the search comes early."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fan_fer.faces.clip_faces import find_faces
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.following import FaceFinder, Follower
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.faces.tracking import Tracker
from fan_fer.video.images import Stream
from fan_fer.video.sources import open_clip

from ..fakes import PREPROCESSING, SquareDetector, picture

FRAMES = 150  # of a real clip that are searched one by one
GREY, BRIGHT = np.full((36, 64, 3), 90, np.uint8), np.full((36, 64, 3), 200, np.uint8)
MOVED = GREY.copy()
MOVED[:4, 60:] = 0  # in the corner


def face(x: float = 10, score: float = 0.99) -> Face:
    return Face((x, 5, 20, 20), np.zeros((5, 2), np.float32), score)


class Walker:
    """Says that there is one face; following moves it by ``step`` pixels."""

    name = "walker"

    def __init__(self, step: float = 1) -> None:
        self.calls: list[str] = []
        self.there, self.lost, self.step = True, False, step

    def detect(self, image: np.ndarray) -> list[Face]:
        self.calls.append("detect")
        return [face()] if self.there else []

    def follow(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        self.calls.append("follow")
        return [None if self.lost else face(one.box[0] + self.step) for one in faces]


def test_a_search_every_third_of_a_second() -> None:
    walker = Walker()
    find = FaceFinder(walker)
    places = [find((GREY, MOVED)[i % 2], i / 20)[0].box[0] for i in range(15)]
    assert walker.calls == (["detect"] + ["follow"] * 6) * 2 + ["detect"]
    assert places == list(range(10, 17)) * 2 + [10]


def test_a_search_every_second_while_nothing_changes_but_near_the_face() -> None:
    near = GREY.copy()
    near[8:20, 12:28] = 200  # in the face, which goes from x = 10 to 30 and y = 5 to 25
    for images in ([GREY], [GREY, near], [GREY, GREY + np.uint8(5)]):
        walker = Walker(step=0)
        find = FaceFinder(walker)
        for i in range(42):
            find(images[i % len(images)], i / 20)
        assert walker.calls == (["detect"] + ["follow"] * 19) * 2 + ["detect", "follow"]


def test_a_change_is_one_from_the_frame_that_was_searched() -> None:
    """Not from the last: what comes slowly would not be seen."""
    walker = Walker(step=0)
    find = FaceFinder(walker)
    for i in range(30):
        image = GREY.copy()
        image[:9, 48:] += np.uint8(3 * i)
        find(image, i / 20)
    assert walker.calls.count("detect") == 5


@pytest.mark.parametrize("size", [(1080, 1920), (1920, 1080), (360, 640), (144, 192)])
def test_the_smallest_face_that_is_looked_for_is_a_change(size: tuple[int, int]) -> None:
    """Wherever it comes but near the one that is known, if it is a little lighter than what is behind it."""
    side = min(size) // 15
    for top in range(60, size[0] - side, size[0] // 7):
        for left in range(60, size[1] - side, size[1] // 7):
            walker = Walker(step=0)
            find = FaceFinder(walker)
            image = np.full((*size, 3), 90, np.uint8)
            find(image, 0)
            find(image, 0.35)
            image[top : top + side, left : left + side] += 40
            find(image, 0.4)
            assert walker.calls == ["detect", "follow", "detect"]


def test_the_interval_is_that_of_the_frames_not_of_their_number() -> None:
    walker = Walker()
    find = FaceFinder(walker)
    for time in (0, 0.001, 0.002, 0.1, 0.2, 0.33, 0.34, 5.0, 5.01):
        find(MOVED if 0 < time < 0.34 else GREY, time)
    assert walker.calls == ["detect", *["follow"] * 4, "detect", "follow", "detect", "follow"]


def test_frames_that_do_not_follow_each_other_are_all_searched() -> None:
    walker = Walker()
    find = FaceFinder(walker, consecutive=False)
    for i in range(4):
        find(GREY, i / 20)
    assert walker.calls == ["detect"] * 4


def test_a_search_when_a_face_is_lost() -> None:
    walker = Walker()
    find = FaceFinder(walker)
    find(GREY, 0.0)
    walker.lost = True
    find(GREY, 0.05)
    assert walker.calls == ["detect", "follow", "detect"]
    walker.lost = False
    find(GREY, 0.1)
    assert walker.calls[-1] == "follow"


def test_a_search_at_a_cut() -> None:
    walker = Walker()
    find = FaceFinder(walker)
    changes = []
    for i, image in enumerate((GREY, GREY, BRIGHT, BRIGHT)):
        find(image, i / 20)
        changes.append(find.change)
    assert changes == [0, 0, 110, 0]
    assert walker.calls == ["detect", "follow", "detect", "follow"]


def test_a_search_in_every_frame_while_no_face_is_known() -> None:
    walker = Walker()
    walker.there = False
    find = FaceFinder(walker)
    assert [find(GREY, i / 20) for i in range(3)] == [[], [], []]
    assert walker.calls == ["detect"] * 3


def test_a_detector_that_cannot_follow_searches_every_frame() -> None:
    detector = SquareDetector()
    assert not isinstance(detector, Follower)
    find = FaceFinder(detector)
    for i in range(5):
        find(GREY, i / 20)
    assert detector.calls == 5


class Pairs(SquareDetector):
    """Would rather search two images at a time."""

    together = 2

    def detect_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        self.batches = [*getattr(self, "batches", []), len(images)]
        return [self.detect(image) for image in images]


def test_a_detector_that_is_quicker_with_several_images_gets_them() -> None:
    images = [picture([(10 + index, 10, 30)]) for index in range(5)]

    def places(detector: Detector, at_once: bool = False) -> list[float]:
        found = find_faces(Stream(images), detector, 32, PREPROCESSING.template, at_once=at_once)
        return [seen.faces[0].box[0] for seen in found]

    together, alone = Pairs(), Pairs()
    assert places(together) == places(alone, at_once=True) == places(SquareDetector()) == [10, 11, 12, 13, 14]
    assert together.batches == [2, 2, 1]
    assert not hasattr(alone, "batches")


@pytest.mark.parametrize("name", ["WolfgangLanger_Pexels.mp4", "single_face.mp4", "face_noface.mov", "noface_face.mov"])
def test_mtcnn_finds_the_same_faces_by_following(name: str, clips: Path) -> None:
    detector = MTCNN()

    class EveryFrame:
        name = "every frame"

        def detect(self, image: np.ndarray) -> list[Face]:
            return detector.detect(image)

    def subject(detector: Detector) -> dict[int, Face]:
        tracker = Tracker()
        frames = islice(open_clip(clips / name), FRAMES)
        for seen in find_faces(Stream(frames), detector, 32, PREPROCESSING.template):
            tracker.add(seen.frame.index, seen.frame.time, seen.faces, seen.looks, seen.change)
        return {seen.frame: seen.face for seen in tracker.people()[0]}

    followed, detected = subject(detector), subject(EveryFrame())
    assert len(followed.keys() ^ detected.keys()) <= 3
    distances = []
    for index in followed.keys() & detected.keys():
        a, b = followed[index].landmarks, detected[index].landmarks
        distances.append(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(b[0] - b[1]))
    assert np.median(distances) < 0.035  # of the distance between the eyes
    assert np.quantile(distances, 0.95) < 0.08


def test_who_leaves_early_ends_what_reads_and_searches_ahead() -> None:
    """An endless clip; the threads end with the generator, and few frames are read that nobody asked for."""
    read = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield picture([(10, 10, 30)])

    found = find_faces(Stream(camera()), SquareDetector(), 32, PREPROCESSING.template)
    seen = [next(found).frame.index for _ in range(5)]
    assert [thread for thread in threading.enumerate() if thread.name == "ahead"]
    found.close()
    assert seen == [0, 1, 2, 3, 4]
    assert read <= 20
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_fault_in_the_detector_reaches_the_caller() -> None:
    class Broken(SquareDetector):
        def detect(self, image: np.ndarray) -> list[Face]:
            if self.calls == 2:
                raise RuntimeError("no memory")
            return super().detect(image)

    found = find_faces(Stream([picture([(10, 10, 30)])] * 5), Broken(), 32, PREPROCESSING.template)
    assert [next(found).frame.index for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError, match="no memory"):
        next(found)
