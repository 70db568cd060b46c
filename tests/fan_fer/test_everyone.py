"""Several people in one video: each reads as alone, and keeps the number behind others and out of sight."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from itertools import islice
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

import fan_fer
from fan_fer import Recognizer, recognizer
from fan_fer.attention.weights import DEFAULT_WEIGHTS
from fan_fer.base.errors import VideoError
from fan_fer.cli.main import main
from fan_fer.cli.outcome import DONE
from fan_fer.output.plot_people import DRAWN, plot_tracks
from fan_fer.video.decoding import Video

from .drawn_lists import random_weights
from .fakes import SquareDetector, assert_one_error, make_clip, names, write_video
from .video.made import video

GREEN, BLUE = (40, 160, 60), (40, 60, 190)
Person = tuple[int, int, tuple[int, int, int]]  # left, side of the face, shirt


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture(scope="module")
def squares(weights: Path) -> Recognizer:
    return fan_fer.load_recognizer(weights, detector=SquareDetector())


def draw_people(people: Iterable[Person], size: tuple[int, int] = (480, 160)) -> np.ndarray:
    """Red squares in shirts, the last in front."""
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    for left, side, shirt in people:
        image[20 : 24 + side, max(left - 4, 0) : left + side + 4] = 90  # hair, which parts one face from the other
        image[20 + side :, max(left - side // 2, 0) : left + side + side // 2] = shirt
        image[20 : 20 + side, left : left + side] = (250, 10, 10)
    return image


def write_people(path: Path, frames: Iterable[Iterable[Person]], size: tuple[int, int] = (480, 160)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for people in frames:
        writer.write(draw_people(people, size)[..., ::-1])
    writer.release()
    return path


def lefts(prediction: fan_fer.ClipPrediction) -> list[float | None]:
    return [None if frame.box is None else frame.box[0] for frame in prediction.frames]


def test_one_person_alone_is_the_subject(squares: Recognizer, tmp_path: Path) -> None:
    clip = write_people(
        tmp_path / "clip.avi", [[(20 + 3 * i, 50, GREEN)] if i not in (4, 5) else [] for i in range(12)]
    )
    (person,) = squares.predict_faces(clip)
    assert person.track == 1
    assert replace(person, track=None) == squares.predict(clip)


def test_a_header_of_a_thousand_a_second_loses_nobody(squares: Recognizer) -> None:
    """As browsers record: the stamps are what counts, steady or not."""
    shots = [(40, GREEN), (300, BLUE), (200, GREEN), (330, BLUE), (60, GREEN)]
    images = [draw_people([(left, 60, shirt)]) for left, shirt in shots for _ in range(16)]
    rng = np.random.default_rng(0)
    jittered = np.cumsum([0, *rng.integers(28, 39, 79)]).tolist()
    found = []
    for stamps, rate in (([33 * number for number in range(80)], 30), (jittered, 1000)):
        clip = Video(video("matroska", "mjpeg", "yuvj420p", images, stamps, rate=rate))
        people = squares.predict_faces(clip)
        found.append([person.frames_with_face for person in people])
        assert people[0].frames[-1].time == pytest.approx(stamps[-1] / 1000, abs=2e-3)
    assert found == [[48, 32]] * 2
    assert clip.fps == 1000


def test_everyone_has_a_prediction_of_their_own(squares: Recognizer, tmp_path: Path) -> None:
    both = [[(40, 40, GREEN), (300, 60, BLUE)] if i < 10 else [(300, 60, BLUE)] for i in range(16)]
    steps: list[tuple[str, int, int | None]] = []
    large, small = squares.predict_faces(write_people(tmp_path / "both.avi", both), lambda *step: steps.append(step))
    assert [(person.track, person.frames_with_face, person.frames_total) for person in (large, small)] == [
        (1, 16, 16),
        (2, 10, 16),
    ]
    assert [person.box[0] for person in small.span] == pytest.approx([40] * 10, abs=2)
    for person in (large, small):
        assert sum(frame.weight or 0 for frame in person.frames) == pytest.approx(1)
    assert replace(large, track=None) == squares.predict(tmp_path / "both.avi")
    alone = squares.predict(write_people(tmp_path / "alone.avi", [[(40, 40, GREEN)]] * 10))
    assert list(small.probabilities.values()) == pytest.approx(list(alone.probabilities.values()), abs=0.02)
    assert steps == [("faces", i + 1, 16) for i in range(16)]


def test_no_face_is_an_error(squares: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no face found in any of the 3 frames"):
        squares.predict_faces(write_video(tmp_path / "clip.mp4", [[]] * 3))


def test_a_person_out_of_sight_for_a_second_keeps_the_number(squares: Recognizer, tmp_path: Path) -> None:
    walk = [[(20 + 3 * i, 50, GREEN)] if not 20 <= i < 45 else [] for i in range(70)]
    (person,) = squares.predict_faces(write_people(tmp_path / "clip.avi", walk))
    assert person.frames_with_face == 45


def test_another_in_the_same_place_is_someone_else(squares: Recognizer, tmp_path: Path) -> None:
    people = squares.predict_faces(
        write_people(tmp_path / "cut.avi", [[(100, 50, GREEN if i < 15 else BLUE)] for i in range(30)])
    )
    assert [[frame.index for frame in person.span] for person in people] == [list(range(15)), list(range(15, 30))]


def test_people_who_cross_or_turn_back_keep_their_numbers(squares: Recognizer, tmp_path: Path) -> None:
    for name, place in (("cross", lambda i: 5 * i), ("turn", lambda i: 5 * min(i, 80 - i))):
        front = [20 + place(i) for i in range(80)]
        behind = [400 - place(i) for i in range(80)]
        frames = [[(b, 48, BLUE), (f, 52, GREEN)] for f, b in zip(front, behind, strict=True)]
        people = squares.predict_faces(write_people(tmp_path / f"{name}.avi", frames))
        assert len(people) == 2, name
        for person, truth in zip(people, (front, behind), strict=True):
            found = [(at, left) for at, left in zip(truth, lefts(person), strict=True) if left is not None]
            assert len(found) > 55, name
            assert max(abs(at - left) for at, left in found) < 8, name


# Written out


@pytest.fixture
def predict(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer predict --faces all`, red squares being faces; gives exit code, stdout, stderr."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["predict", "--faces", "all", "--weights", str(weights), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def party(tmp_path: Path) -> Path:
    return write_people(tmp_path / "party.avi", [[(40, 40, GREEN)] * (i > 4) + [(300, 60, BLUE)] for i in range(10)])


def test_all_outputs(predict, party: Path, tmp_path: Path) -> None:
    outputs = ["--json", "a.json", "--csv", "a.csv", "--plot", "a.png", "--annotate", "a.mp4"]
    code, out, err = predict(party, *(tmp_path / word if "." in word else word for word in outputs))
    assert (code, err) == (DONE, "")
    rows = [line.split() for line in out.splitlines() if line.strip()[:1] in ("1", "2")]
    assert [(row[0], row[3], row[5], row[7]) for row in rows[:2]] == [
        ("1", "0.00", "0.36", "10"),
        ("2", "0.20", "0.36", "5"),
    ]
    assert "10 frames decoded" in out
    document = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(document, json.loads(resources.files("fan_fer").joinpath("prediction.schema.json").read_text()))
    assert [(track["track"], len(track["frames"])) for track in document["tracks"]] == [(1, 10), (2, 5)]
    with (tmp_path / "a.csv").open() as file:
        assert [row["track"] for row in csv.DictReader(file)] == ["1"] * 10 + ["2"] * 5
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] > 1500
    assert len(list(Video(tmp_path / "a.mp4"))) == 10
    assert names(tmp_path) == ["a.csv", "a.json", "a.mp4", "a.png", "party.avi"]


def test_several_clips(predict, party: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    outputs = ["--json", tmp_path / "a.json", "--annotate", tmp_path / "annotated", "--plot", tmp_path / "plots"]
    code, out, _ = predict(party, bad, party, *outputs)
    assert code == 1
    assert out.count("party.avi") == 4
    document = json.loads((tmp_path / "a.json").read_text())
    assert [len(clip["tracks"]) for clip in document["clips"]] == [2, 2]
    assert names(tmp_path / "annotated") == ["party-2.mp4", "party.mp4"]
    assert names(tmp_path / "plots") == ["party-2.png", "party.png"]


def test_an_annotated_video_that_cannot_be_is_known_beforehand(predict, party: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [[(10, 10, 30)]] * 3)
    before = clip.read_bytes()
    assert_one_error(predict(clip, "--annotate", clip), "clip.mp4: is one of the clips")
    assert_one_error(predict(tmp_path, "--annotate", tmp_path), "clip.mp4: is one of the clips")
    assert_one_error(predict(clip, "--annotate", tmp_path / "a.webm"), "a.webm: .* ends in .mp4")
    assert_one_error(predict(clip, party, "--annotate", tmp_path / "a.mp4"), "the name of a folder is wanted")
    assert clip.read_bytes() == before
    assert names(tmp_path) == ["clip.mp4", "party.avi"]


@pytest.mark.parametrize(("count", "frames"), [(1, 1), (3, 8), (DRAWN + 3, 60)])
def test_the_plot_has_a_row_for_each(count: int, frames: int) -> None:
    tracks = [replace(make_clip(frames, missing=range(1, frames // 2)), track=i + 1) for i in range(count)]
    faces = [{i: np.full((32, 32, 3), 90, np.uint8) for i in range(frames)}] * count
    figure = plot_tracks(tracks, faces)
    texts = [text.get_text().strip() for text in figure.texts]
    assert [text for text in texts if text.isdigit()] == [str(i + 1) for i in range(min(count, DRAWN))]
    weights = [axes for axes in figure.axes if axes.get_ylabel() == "weight"]
    for axes, track in zip(weights, tracks, strict=False):
        drawn = axes.patches[-1].get_data().values
        np.testing.assert_array_equal(drawn, [np.nan if f.weight is None else f.weight for f in track.frames])


# Real people, side by side


@pytest.mark.skipif(not DEFAULT_WEIGHTS.exists(), reason="the trained network is not in the tree")
@pytest.mark.parametrize("first_step", [0, 10], ids=["crying", "laughing"])
def test_two_people_side_by_side_read_as_alone(clips: Path, tmp_path: Path, first_step: int) -> None:
    """A woman who cries, or laughs, beside one who smiles, against each alone."""
    start = 24 * first_step
    left = [frame.image for frame in islice(Video(clips / "WolfgangLanger_Pexels.mp4"), start, start + 60, 2)]
    right = [frame.image for frame in islice(Video(clips / "single_face.mp4"), 10, 70, 2)]
    both = [np.hstack(pair) for pair in zip(left, right, strict=True)]

    def write(name: str, images: list[np.ndarray]) -> Path:
        size = images[0].shape[1::-1]
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*"MJPG"), 15, size)
        for image in images:
            writer.write(image[..., ::-1])
        writer.release()
        return tmp_path / name

    trained = fan_fer.load_recognizer()
    people = trained.predict_faces(write("both.avi", both))
    alone = [trained.predict(write("left.avi", left)), trained.predict(write("right.avi", right))]
    assert len(people) == 2
    for person, truth in zip(sorted(people, key=lambda one: one.span[0].box[0]), alone, strict=True):
        assert person.label == truth.label
        assert list(person.probabilities.values()) == pytest.approx(list(truth.probabilities.values()), abs=0.05)
        pairs = [(a.emotion, b.emotion) for a, b in zip(person.frames, truth.frames, strict=True)]
        assert sum(a == b for a, b in pairs) >= 0.9 * len(pairs)
        assert person.frames_with_face == truth.frames_with_face == len(left)
