"""Who is who among the faces of a clip's frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fan_fer.faces.appearance import Appearance, appearance, difference
from fan_fer.faces.face import Face
from fan_fer.faces.tracking import Tracker

FPS = 25.0
RED, BLUE = np.full(60, 100, np.uint8), np.full(60, 140, np.uint8)
Frames = Sequence[Sequence[tuple[Face, Appearance]]]


def face(x: float, y: float = 100, side: float = 100) -> Face:
    return Face((x, y, side, side * 1.2), np.zeros((5, 2), np.float32), 0.99)


def track(frames: Frames, times: Sequence[float], cuts: Sequence[int] = ()) -> Tracker:
    tracker = Tracker()
    for index, (frame, time) in enumerate(zip(frames, times, strict=True)):
        faces, looks = zip(*frame, strict=True) if frame else ((), ())
        tracker.add(index, time, faces, looks, change=99.0 if index in cuts else 1.0)
    return tracker


def people(
    frames: Frames, fps: float = FPS, cuts: Sequence[int] = (), times: Sequence[float] | None = None
) -> list[list[float | None]]:
    """Left edges of each person's faces, which tell the faces of these tests apart."""
    times = times or [index / fps for index in range(len(frames))]
    found = []
    for person in track(frames, times, cuts).people():
        edges = {seen.frame: seen.face.box[0] for seen in person}
        found.append([edges.get(index) for index in range(len(frames))])
    return found


def only(*faces: Face) -> list[tuple[Face, Appearance]]:
    """A frame of faces that look alike."""
    return [(one, RED) for one in faces]


def test_no_face_is_nobody() -> None:
    assert people([]) == []
    assert people([[], []]) == []


def test_single_frame_takes_the_largest_face_first() -> None:
    assert people([only(face(0, side=40), face(300, side=90))]) == [[300.0], [0.0]]


def test_frames_without_the_face_give_none() -> None:
    frames = [only(face(10 + i)) if i not in (4, 5, 6, 12) else [] for i in range(20)]
    assert people(frames) == [[10 + i if i not in (4, 5, 6, 12) else None for i in range(20)]]


def test_largest_over_the_clip_comes_first_not_the_first_found() -> None:
    frames = [only(face(0, side=60), *([face(300, side=110)] if i >= 10 else [])) for i in range(40)]
    assert people(frames) == [[None] * 10 + [300.0] * 30, [0.0] * 40]


def test_everyone_is_followed_the_largest_first_in_any_order() -> None:
    frames = [[(face(10 + i, side=60), RED), (face(300 - i), BLUE)][:: 1 if i % 2 else -1] for i in range(20)]
    assert people(frames) == [[300.0 - i for i in range(20)], [10.0 + i for i in range(20)]]


def test_one_large_frame_does_not_beat_a_steady_face() -> None:
    frames = [only(face(300), *([face(0, 0, side=220)] if i == 7 else [])) for i in range(30)]
    assert people(frames) == [[300.0] * 30]


@pytest.mark.parametrize("fps", [4.5, 25.0, 240.0])
def test_seconds_are_those_of_the_frames(fps: float) -> None:
    """Someone out of sight for two seconds keeps the number; one who is away for longer, or seen too shortly, not."""
    second = round(fps)
    there, away = [only(face(50))] * second, [[]] * second
    assert len(people([*there, *away, *there], fps)) == 1
    assert len(people([*there, *away, *away, *away, *there], fps)) == 2
    moment = [[(face(50), RED), *([(face(300), BLUE)] if i < 0.4 * fps else [])] for i in range(4 * second)]
    assert len(people(moment, fps)) == 1
    longer = [[(face(50), RED), *([(face(300), BLUE)] if i < 0.7 * fps else [])] for i in range(4 * second)]
    assert len(people(longer, fps)) == 2


def test_a_pause_of_the_recording_is_no_presence() -> None:
    """A false detection in the one frame that a pause of ten seconds follows."""
    times = [index / FPS + (10 if index > 20 else 0) for index in range(60)]
    frames = [[(face(50), RED), *([(face(300), BLUE)] if i == 20 else [])] for i in range(60)]
    assert len(people(frames, times=times)) == 1


def test_a_shorter_appearance_suffices_where_there_is_nobody_else() -> None:
    assert people([only(face(20)) if 30 <= i < 36 else [] for i in range(60)]) == [
        [20.0 if 30 <= i < 36 else None for i in range(60)]
    ]
    assert people([only(face(20)) if i in (30, 31) else [] for i in range(60)]) == []  # a false detection


def test_fast_motion_and_growth_stay_one_person() -> None:
    frames = [only(face(12.0 * i, side=60 + 2 * i), face(900, 600, side=70)) for i in range(40)]
    assert people(frames)[0] == [12.0 * i for i in range(40)]


def test_low_frame_rates() -> None:
    frames = [only(face(20.0 * i)) for i in range(6)]  # one picture a second
    assert people(frames, 1.0) == [[20.0 * i for i in range(6)]]


def test_boxes_without_area_do_no_harm() -> None:
    nothing = Face((5, 5, 0, 0), np.zeros((5, 2), np.float32), 0.9)
    assert people([only(nothing, face(200))] * 5)[0] == [200.0] * 5
    assert people([only(nothing)] * 5) == []


def test_someone_hidden_for_a_second_is_the_same_person() -> None:
    hidden = range(20, 45)
    frames = [only(face(5.0 * i)) if i not in hidden else [] for i in range(65)]
    assert people(frames) == [[5.0 * i if i not in hidden else None for i in range(65)]]


def test_someone_else_at_that_place_is_another_person() -> None:
    frames = [[(face(100), RED)]] * 20 + [[]] * 25 + [[(face(100), BLUE)]] * 20
    assert people(frames) == [[100.0] * 20 + [None] * 45, [None] * 45 + [100.0] * 20]


@pytest.mark.parametrize("cuts", [(), (20,)])
def test_a_cut_to_someone_at_the_same_place_is_another_person(cuts: Sequence[int]) -> None:
    frames = [[(face(100), RED)]] * 20 + [[(face(100), BLUE)]] * 20
    assert people(frames, cuts=cuts) == [[100.0] * 20 + [None] * 20, [None] * 20 + [100.0] * 20]


def test_a_hand_before_the_mouth_makes_nobody_another_person() -> None:
    frames = [[(face(100 + i), BLUE if 20 <= i < 30 else RED)] for i in range(50)]
    assert people(frames) == [[100.0 + i for i in range(50)]]
    for_long = [[(face(100 + i), BLUE if 20 <= i < 40 else RED)] for i in range(60)]
    assert people(for_long, cuts=(20, 40)) == [
        [None if 20 <= i < 40 else 100.0 + i for i in range(60)],
        [100.0 + i if 20 <= i < 40 else None for i in range(60)],
    ]
    both = [[*frame, (face(160 + i), RED)] for i, frame in enumerate(frames)]
    assert all(None not in person for person in people(both)[:1])


def test_after_a_cut_who_looks_alike_is_the_same_person() -> None:
    """Shot and reverse shot: two people in turn, one of them nearer the second time."""
    one, other, nearer = [[(face(50), RED)]] * 60, [[(face(400), BLUE)]] * 80, [[(face(220, side=190), RED)]] * 60
    frames = [*one, *other, *nearer, *other]
    expected = [[50.0] * 60 + [None] * 80 + [220.0] * 60 + [None] * 80]
    expected.append([None] * 60 + [400.0] * 80 + [None] * 60 + [400.0] * 80)
    assert people(frames, cuts=(60, 140, 200)) == expected
    assert len(people(frames)) == 4


def test_people_in_one_frame_are_never_put_together() -> None:
    frames = [only(face(50), face(400))] * 30 + [only(face(20, side=120), face(300, side=120))] * 30
    found = people(frames, cuts=(30,))
    assert len(found) == 2
    assert all(None not in person for person in found)


def test_one_who_is_far_away_or_long_gone_is_a_new_person() -> None:
    assert len(people([only(face(0))] * 20 + [[]] * 25 + [only(face(900))] * 20)) == 2
    assert len(people([only(face(0))] * 20 + [[]] * 60 + [only(face(0))] * 20)) == 2
    assert len(people([only(face(0))] * 20 + [[]] * 25 + [only(face(0, side=40))] * 20)) == 2


def test_someone_in_sight_for_a_moment_is_left_out() -> None:
    frames = [[(face(100), RED)] + ([(face(300), BLUE)] if 20 <= i < 30 else []) for i in range(60)]
    assert people(frames) == [[100.0] * 60]
    assert len(people(frames[18:32])) == 2


def test_what_is_forgotten_counts_no_more() -> None:
    frames = [[(face(100), RED)] + ([(face(300, side=300), BLUE)] if i < 30 else []) for i in range(90)]
    tracker = track(frames, [i / FPS for i in range(90)])
    assert [len(person) for person in tracker.people()] == [30, 90]
    tracker.forget(before=2.0)
    assert [[seen.frame for seen in person] for person in tracker.people()] == [list(range(50, 90))]
    assert tracker.first_row == 80
    tracker.forget(before=99.0)
    assert tracker.people() == []


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
