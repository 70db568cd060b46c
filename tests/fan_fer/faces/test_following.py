"""Faces are searched for now and then and followed in between; at cuts and when one is lost, the search comes early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fan_fer.faces.clip_faces import find_subject
from fan_fer.faces.face import Face
from fan_fer.faces.following import FaceFinder, Follower
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.video.decoding import Video

from ..fakes import SquareDetector

GREY, BRIGHT = np.full((36, 64, 3), 90, np.uint8), np.full((36, 64, 3), 200, np.uint8)


def face(x: float = 10, score: float = 0.99) -> Face:
    return Face((x, 5, 20, 20), np.zeros((5, 2), np.float32), score)


class Walker:
    """Says that there is one face; following moves it by a pixel."""

    name = "walker"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.there, self.lost = True, False

    def detect(self, image: np.ndarray) -> list[Face]:
        self.calls.append("detect")
        return [face()] if self.there else []

    def follow(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        self.calls.append("follow")
        return [None if self.lost else face(one.box[0] + 1) for one in faces]


def test_a_search_every_third_of_a_second() -> None:
    walker = Walker()
    find = FaceFinder(walker, fps=20)
    places = [find(GREY)[0].box[0] for _ in range(15)]
    assert walker.calls == (["detect"] + ["follow"] * 6) * 2 + ["detect"]
    assert places == list(range(10, 17)) * 2 + [10]


def test_a_search_when_a_face_is_lost() -> None:
    walker = Walker()
    find = FaceFinder(walker, fps=20)
    find(GREY)
    walker.lost = True
    find(GREY)
    assert walker.calls == ["detect", "follow", "detect"]
    walker.lost = False
    find(GREY)
    assert walker.calls[-1] == "follow"


def test_a_search_at_a_cut() -> None:
    walker = Walker()
    find = FaceFinder(walker, fps=20)
    for image in (GREY, GREY, BRIGHT, BRIGHT):
        find(image)
    assert walker.calls == ["detect", "follow", "detect", "follow"]


def test_a_search_in_every_frame_while_no_face_is_known() -> None:
    walker = Walker()
    walker.there = False
    find = FaceFinder(walker, fps=20)
    assert [find(GREY) for _ in range(3)] == [[], [], []]
    assert walker.calls == ["detect"] * 3


def test_a_detector_that_cannot_follow_searches_every_frame() -> None:
    detector = SquareDetector()
    assert not isinstance(detector, Follower)
    find = FaceFinder(detector, fps=20)
    for _ in range(5):
        find(GREY)
    assert detector.calls == 5


@pytest.mark.parametrize("name", ["WolfgangLanger_Pexels.mp4", "single_face.mp4", "face_noface.mov", "noface_face.mov"])
def test_mtcnn_finds_the_same_faces_by_following(name: str, clips: Path) -> None:
    detector, video = MTCNN(), Video(clips / name)
    _, followed = find_subject(video, detector)

    class EveryFrame:
        name = "every frame"

        def detect(self, image: np.ndarray) -> list[Face]:
            return detector.detect(image)

    _, detected = find_subject(video, EveryFrame())
    assert sum((a is None) != (b is None) for a, b in zip(followed, detected, strict=True)) <= 3
    distances = [
        np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / np.linalg.norm(b.landmarks[0] - b.landmarks[1])
        for a, b in zip(followed, detected, strict=True)
        if a is not None and b is not None
    ]
    assert np.median(distances) < 0.03  # of the distance between the eyes
    assert np.quantile(distances, 0.95) < 0.08
