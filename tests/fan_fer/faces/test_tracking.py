"""The subject of a clip, from the boxes of the faces in its frames."""

from __future__ import annotations

import numpy as np

from fan_fer.faces.appearance import Appearance, appearance, difference
from fan_fer.faces.face import Face
from fan_fer.faces.tracking import find_people, select_subject

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


# Everyone in the clip

RED, BLUE = np.full(60, 100, np.uint8), np.full(60, 140, np.uint8)


def people(frames: list[list[tuple[Face, Appearance]]], fps: float = FPS) -> list[list[float | None]]:
    """Left edges of each person's faces; frames hold faces with their looks."""
    found = find_people(
        [[f for f, _ in frame] for frame in frames], [[look for _, look in frame] for frame in frames], fps
    )
    return [boxes(person) for person in found]


def test_no_face_is_nobody() -> None:
    assert people([]) == []
    assert people([[], []]) == []


def test_everyone_is_followed_the_largest_first() -> None:
    frames = [[(face(10 + i, side=60), RED), (face(300 - i), BLUE)][:: 1 if i % 2 else -1] for i in range(20)]
    assert people(frames) == [[300.0 - i for i in range(20)], [10.0 + i for i in range(20)]]


def test_someone_hidden_for_a_second_is_the_same_person() -> None:
    hidden = range(20, 45)
    frames = [[(face(5.0 * i), RED)] if i not in hidden else [] for i in range(65)]
    assert people(frames) == [[5.0 * i if i not in hidden else None for i in range(65)]]


def test_someone_else_at_that_place_is_another_person() -> None:
    frames = [[(face(100), RED)]] * 20 + [[]] * 25 + [[(face(100), BLUE)]] * 20
    assert people(frames) == [[100.0] * 20 + [None] * 45, [None] * 45 + [100.0] * 20]


def test_a_cut_to_someone_at_the_same_place_is_another_person() -> None:
    frames = [[(face(100), RED)]] * 20 + [[(face(100), BLUE)]] * 20
    assert people(frames) == [[100.0] * 20 + [None] * 20, [None] * 20 + [100.0] * 20]


def test_one_who_is_far_away_or_long_gone_is_a_new_person() -> None:
    assert len(people([[(face(0), RED)]] * 20 + [[]] * 25 + [[(face(900), RED)]] * 20)) == 2
    assert len(people([[(face(0), RED)]] * 20 + [[]] * 60 + [[(face(0), RED)]] * 20)) == 2
    assert len(people([[(face(0), RED)]] * 20 + [[]] * 25 + [[(face(0, side=40), RED)]] * 20)) == 2


def test_someone_in_sight_for_a_moment_is_left_out() -> None:
    frames = [[(face(100), RED)] + ([(face(300), BLUE)] if 20 <= i < 30 else []) for i in range(60)]
    assert people(frames) == [[100.0] * 60]
    assert len(people(frames[18:32])) == 2


def test_people_who_cross_keep_their_numbers() -> None:
    frames, right, left = [], [], []
    for i in range(80):
        right.append(5.0 * i)
        hidden = abs(5.0 * i - (400 - 5.0 * i)) < 60
        left.append(None if hidden else 400 - 5.0 * i)
        frames.append([(face(right[-1]), RED)] + ([] if hidden else [(face(left[-1], side=98), BLUE)]))
    assert people(frames) == [right, left]
    assert None in left


def test_people_who_meet_and_turn_back_keep_their_numbers() -> None:
    """The one behind is hidden for more than a second; motion alone would send each on in the other's place."""
    frames, front, behind = [], [], []
    for i in range(120):
        away = max(abs(i - 60) - 15, 0) * 6.0  # from where they meet
        front.append(400 - away)
        behind.append(410 + away if away > 40 else None)
        frames.append([(face(front[-1]), RED)] + ([] if behind[-1] is None else [(face(behind[-1], side=98), BLUE)]))
    assert people(frames) == [front, behind]


def test_one_lost_for_a_frame_does_not_take_the_other_face() -> None:
    frames = [[(face(100), RED), (face(140), BLUE)] for _ in range(30)]
    frames[10] = frames[10][1:]
    one, other = people(frames)
    assert (one[10], other[10]) in ((None, 140.0), (140.0, None))
    assert one[:10] + one[11:] == [100.0] * 29 or one == [140.0] * 30


def test_appearance_sees_clothes_and_not_where_the_face_is() -> None:
    def scene(x: int, y: int, size: int, shirt: tuple[int, int, int]) -> Appearance:
        image = np.full((400, 400, 3), 90, np.uint8)
        image[y + size : y + 3 * size, x - size : x + 2 * size] = shirt
        image[y : y + size, x : x + size] = (220, 180, 160)
        return appearance(image, Face((x, y, size, size), np.zeros((5, 2), np.float32), 1.0))

    red, again, blue = (
        scene(100, 60, 60, (180, 30, 30)),
        scene(211, 90, 50, (180, 30, 30)),
        scene(100, 60, 60, (30, 30, 180)),
    )
    assert (red.shape, red.dtype) == ((60,), np.uint8)
    assert difference(red, again) < 4
    assert difference(red, blue) > 20
    beyond = Face((-30, 380, 80, 0), np.zeros((5, 2), np.float32), 1.0)
    assert appearance(np.full((400, 400, 3), 90, np.uint8), beyond).shape == (60,)
