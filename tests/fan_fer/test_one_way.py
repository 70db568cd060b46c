"""The same frames give the same numbers, whichever way they come and whatever goes on around."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

import fan_fer
from fan_fer import ClipPrediction, Recognizer
from fan_fer.datasets.prepare import prepare
from fan_fer.datasets.prepared import open_prepared
from fan_fer.evaluation.clips import choose_prepared, evaluate_prepared
from fan_fer.recognizer import faces_of
from fan_fer.video.camera import Camera
from fan_fer.video.frame import Frame
from fan_fer.video.images import Array

from .drawn_lists import random_weights
from .fakes import SquareDetector, write_video

GREEN, BLUE = (30, 140, 40), (40, 40, 200)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    weights = random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")
    return fan_fer.load_recognizer(weights, detector=SquareDetector())


def scene(left: int, shirt: tuple[int, int, int], background: int, side: int = 40) -> np.ndarray:
    """A red square in a shirt, before a wall."""
    image = np.full((120, 320, 3), background, np.uint8)
    image[20 + side :, max(left - side // 2, 0) : left + side + side // 2] = shirt
    image[20 : 20 + side, left : left + side] = (250, 10, 10)
    return image


def walk(count: int = 40) -> list[np.ndarray]:
    return [scene(30 + 2 * index, GREEN, 128) for index in range(count)]


def dialogue() -> np.ndarray:
    """One person, a cut to another of the same size, and the first again, elsewhere in the picture."""
    one = [scene(60, GREEN, 60)] * 30
    other = [scene(200, BLUE, 190)] * 25
    again = [scene(120, GREEN, 60, side=44)] * 30
    return np.stack([*one, *other, *again])


def shares(prediction: ClipPrediction) -> list[float | None]:
    return [frame.weight for frame in prediction.frames]


def assert_same(one: ClipPrediction, other: ClipPrediction, tolerance: float = 1e-6) -> None:
    assert list(one.probabilities.values()) == pytest.approx(list(other.probabilities.values()), abs=tolerance)
    assert shares(one) == pytest.approx(shares(other), abs=tolerance)


def test_who_comes_back_after_a_cut_is_the_same_person_and_nobody_stands_in(squares: Recognizer) -> None:
    subject, (first, second) = squares.predict(dialogue()), squares.predict_faces(dialogue())
    assert replace(first, track=None) == subject
    shown = [frame.index for frame in subject.frames if frame.has_face]
    assert shown == [*range(30), *range(55, 85)]
    assert [frame.index for frame in second.frames if frame.has_face] == list(range(30, 55))


def test_whatever_a_clip_is(squares: Recognizer, tmp_path: Path) -> None:
    images = walk(12)
    wanted = squares.predict(np.stack(images))
    assert wanted.frames_with_face == 12
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{index}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    files = [tmp_path / f"{index}.png" for index in range(12)]
    sources = {
        "list of images": images,
        "iterator of images": iter(images),
        "iterator of times and images": ((index / 25, image) for index, image in enumerate(images)),
        "frames": [Frame(index, index / 25, image) for index, image in enumerate(images)],
        "opened": Array(np.stack(images)),
        "files": files,
        "folder": tmp_path,
    }
    for name, source in sources.items():
        prediction = squares.predict(source)
        assert prediction.frames_total == 12, name
        assert_same(prediction, wanted)
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 120))
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    read = squares.predict(path)
    assert (read.video, read.frames_total) == (str(path), 12)
    assert_same(squares.predict(path.read_bytes()), read)
    with path.open("rb") as file:
        assert_same(squares.predict(file), read)
    assert_same(squares.predict(str(path)), read)


def test_known_faces_are_not_looked_for(squares: Recognizer) -> None:
    images = np.stack(walk(10))
    found = squares.predict(images)
    calls = squares.detector.calls
    assert_same(squares.predict(images, faces=found), found)
    faces = faces_of(found)
    some = squares.predict(images, faces=[None, *faces[1:4]])
    assert squares.detector.calls == calls
    assert [frame.has_face for frame in some.frames] == [False] + [True] * 3 + [False] * 6
    assert_same(some, squares.predict(images, faces=[None, *faces[1:4], *[None] * 6]))
    with pytest.raises(TypeError, match=r"^faces\[1\]: got tuple; a Face, or None"):
        squares.predict(images, faces=[None, (1, 2, 3, 4)])
    with pytest.raises(fan_fer.FanFerError, match="no face found in any of the 10 frames"):
        squares.predict(images, faces=[None] * 10)


def test_a_prepared_set_gives_what_its_videos_give(squares: Recognizer, tmp_path: Path) -> None:
    """With a bystander, a cut and frames without a face."""
    clips = {
        "two.mp4": [[(10 + index, 8, 36), (70, 30, 14)] for index in range(12)],
        "gap.avi": [[(10, 10, 30)] if index not in (3, 4) else [] for index in range(10)],
        "one.mp4": [[(20, 12, 24)]],
    }
    for name, frames in clips.items():
        write_video(tmp_path / name, frames)
    (tmp_path / "list.csv").write_text("video,label\n" + "".join(f"{name},Happy\n" for name in clips))
    prepare("csv", tmp_path / "list.csv", tmp_path / "set", size=32, detector=SquareDetector())
    prepared = open_prepared(tmp_path / "set")
    _, found = choose_prepared(prepared)
    evaluated = evaluate_prepared(squares, prepared, found)
    assert len(evaluated) == 3
    for clip in evaluated:
        own = squares.predict(next(tmp_path.glob(f"{clip.name}.*")))
        assert clip.probabilities.tolist() == pytest.approx(list(own.probabilities.values()), abs=1e-3)
        seen = [frame.index for frame in own.frames if frame.has_face]
        assert list(clip.numbers) == seen
        assert clip.scores.weights.tolist() == pytest.approx([own.frames[index].weight for index in seen], abs=1e-3)


# Frame by frame


def test_a_stream_ends_where_the_prediction_of_all_frames_is(squares: Recognizer) -> None:
    for images in (np.stack(walk()), dialogue()):
        *_, (frame, last) = squares.stream(images, window=100.0)
        assert frame.index == len(images) - 1
        assert_same(last, squares.predict(images), tolerance=1e-3)


def test_a_stream_looks_back_as_far_as_it_is_told(squares: Recognizer) -> None:
    images = np.stack(walk(40))
    streamed = list(squares.stream(images, window=0.4))
    assert [frame.index for frame, _ in streamed] == list(range(40))
    for frame, prediction in streamed:
        numbers = [seen.index for seen in prediction.frames]
        assert numbers == list(range(max(0, frame.index - 9), frame.index + 1))
        assert sum(weight for weight in shares(prediction)) == pytest.approx(1)
    assert_same(streamed[-1][1], squares.predict(images[30:]), tolerance=1e-3)


def test_a_stream_without_a_face_says_nothing_and_forgets(squares: Recognizer) -> None:
    empty = [np.full((120, 320, 3), 128, np.uint8)] * 20
    told = [prediction is not None for _, prediction in squares.stream([*empty[:5], *walk(10), *empty], window=0.4)]
    assert told == [False] * 6 + [True] * 16 + [False] * 13
    with pytest.raises(ValueError, match=r"^window: got 0; seconds, above 0, are wanted$"):
        next(squares.stream(empty, window=0))


def test_a_stream_reads_a_frame_when_it_is_asked_for_one(squares: Recognizer) -> None:
    """An endless source; what is read ahead is a few frames, and what is left ends with the stream."""
    read = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield scene(60, GREEN, 128)

    stream = squares.stream(camera(), window=1.0)
    for _ in range(30):
        _, prediction = next(stream)
    stream.close()
    assert len(prediction.frames) == 25
    assert 30 <= read <= 40
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]


# Threads and what is global


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast, half": lambda: torch.autocast("cpu", torch.float16),
    "float64": default_dtype,
    "another device": default_device,
    "no grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "deterministic": deterministic,
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_the_caller_has_set_changes_nothing(squares: Recognizer, tmp_path: Path, name: str) -> None:
    images = np.stack(walk(8))
    wanted, streamed = squares.predict(images), list(squares.stream(images))
    crops = [image[20:60, 30:70] for image in images]
    own = squares.classify_faces(crops)
    with SURROUNDINGS[name]():
        assert squares.predict(images) == wanted
        assert squares.classify_clip(crops).probabilities
        assert list(squares.stream(images))[-1][1] == streamed[-1][1]
        np.testing.assert_array_equal(squares.classify_faces(crops), own)
        loaded = fan_fer.load_recognizer(squares.weights_file, detector=SquareDetector())
        assert loaded.predict(images) == wanted
    assert loaded.predict(images) == wanted


def test_threads_share_a_recognizer_and_leave_the_process_as_it_is(squares: Recognizer) -> None:
    clips = [np.stack(walk(6 + index)) for index in range(6)]
    wanted = [squares.predict(clip) for clip in clips]
    before = torch.get_num_threads(), torch.get_default_dtype(), cv2.getNumThreads(), torch.is_grad_enabled()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(squares.predict, clips)) == wanted
        counts = set(pool.map(lambda _: torch.get_num_threads(), range(8)))
    assert counts == {before[0]}
    after = torch.get_num_threads(), torch.get_default_dtype(), cv2.getNumThreads(), torch.is_grad_enabled()
    assert after == before


def test_a_recognizer_can_be_copied_and_sent_to_another_process(squares: Recognizer) -> None:
    images = np.stack(walk(4))
    for other in (pickle.loads(pickle.dumps(squares)), copy.deepcopy(squares)):
        assert other.predict(images) == squares.predict(images)
    assert fan_fer.load_recognizer().detector is not None
    assert pickle.loads(pickle.dumps(fan_fer.load_recognizer())).card.variant == "fan"


def test_a_camera_has_no_prediction(squares: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "_open", lambda self: SimpleNamespace(release=lambda: None))
    with pytest.raises(ValueError, match=r"^camera 0: has no end; Recognizer\.stream reads it$"):
        squares.predict(0)
