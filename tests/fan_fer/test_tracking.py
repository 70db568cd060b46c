"""The subject of a clip, from the boxes of the faces in its frames."""

from __future__ import annotations

import numpy as np

from fan_fer.faces import Face
from fan_fer.tracking import select_subject

FPS = 25.0


def face(x: float, y: float = 100, side: float = 100) -> Face:
    return Face((x, y, side, side * 1.2), np.zeros((5, 2), np.float32), 0.99)


def boxes(subject: list[Face | None]) -> list[float | None]:
    """Left edges, which tell the faces of these tests apart."""
    return [None if chosen is None else chosen.box[0] for chosen in subject]


def test_empty_clips() -> None:
    assert select_subject([], FPS) == []
    assert select_subject([[], [], []], FPS) == [None, None, None]


def test_single_frame_takes_the_largest_face() -> None:
    small, large = face(0, side=40), face(300, side=90)
    assert select_subject([[small, large]], FPS) == [large]


def test_frames_without_the_face_give_none() -> None:
    frames = [[face(10 + i)] if i not in (4, 5, 6, 12) else [] for i in range(20)]
    assert boxes(select_subject(frames, FPS)) == [10 + i if i not in (4, 5, 6, 12) else None for i in range(20)]


def test_largest_over_the_clip_wins_not_the_first_found() -> None:
    frames = [[face(0, side=60)] + ([face(300, side=110)] if i >= 10 else []) for i in range(40)]
    # The bystander was there alone at first, but is later seen together with the subject: it never stands in.
    assert boxes(select_subject(frames, FPS)) == [None] * 10 + [300.0] * 30


def test_order_in_the_frame_does_not_matter() -> None:
    frames = [[face(0, side=60), face(300)][:: 1 if i % 2 else -1] for i in range(30)]
    assert boxes(select_subject(frames, FPS)) == [300.0] * 30


def test_one_large_frame_does_not_beat_a_steady_face() -> None:
    frames = [[face(300)] + ([face(0, 0, side=220)] if i == 7 else []) for i in range(30)]
    assert boxes(select_subject(frames, FPS)) == [300.0] * 30


def test_after_a_cut_the_face_elsewhere_stands_in() -> None:
    frames = [[face(50)] for _ in range(20)] + [[face(400, side=120)] for _ in range(15)]
    assert boxes(select_subject(frames, FPS)) == [50.0] * 20 + [400.0] * 15


def test_after_a_cut_a_much_smaller_face_does_not() -> None:
    frames = [[face(50)] for _ in range(20)] + [[face(400, side=30)] for _ in range(15)]
    assert boxes(select_subject(frames, FPS)) == [50.0] * 20 + [None] * 15


def test_re_entry_after_a_long_gap() -> None:
    frames = [[face(50)] for _ in range(20)] + [[]] * 50 + [[face(420, side=95)] for _ in range(20)]
    assert boxes(select_subject(frames, FPS)) == [50.0] * 20 + [None] * 50 + [420.0] * 20


def test_flicker_of_a_false_detection_is_not_the_subject() -> None:
    for length in (1, 3):
        frames = [[face(300)] if i < 20 else [] for i in range(60)]
        frames[40 : 40 + length] = [[face(20, side=105)]] * length
        assert boxes(select_subject(frames, FPS)) == [300.0] * 20 + [None] * 40
    only = [[face(20)] if i in (30, 31) else [] for i in range(60)]
    assert boxes(select_subject(only, FPS)) == [None] * 60


def test_faces_that_cross_keep_their_owners() -> None:
    """Two faces of nearly one size pass each other; one of the two is lost for the frames in which they overlap."""
    frames = []
    for i in range(60):
        right, left = face(6.0 * i, side=100), face(354 - 6.0 * i, 110, side=96)
        hidden = abs(right.box[0] - left.box[0]) < 50
        frames.append([right] if hidden else [left, right])
    assert boxes(select_subject(frames, FPS)) == [6.0 * i for i in range(60)]


def test_fast_motion_and_growth_stay_one_track() -> None:
    frames = [[face(12.0 * i, side=60 + 2 * i), face(900, 600, side=70)] for i in range(40)]
    assert boxes(select_subject(frames, FPS)) == [12.0 * i for i in range(40)]


def test_low_frame_rates() -> None:
    frames = [[face(200.0 * i)] for i in range(6)]  # one picture a second, each elsewhere
    assert boxes(select_subject(frames, 1.0)) == [200.0 * i for i in range(6)]


def test_boxes_without_area_do_no_harm() -> None:
    frames = [[Face((5, 5, 0, 0), np.zeros((5, 2), np.float32), 0.9), face(200)] for _ in range(5)]
    assert boxes(select_subject(frames, FPS)) == [200.0] * 5
    assert len(select_subject([[frames[0][0]]] * 5, FPS)) == 5
