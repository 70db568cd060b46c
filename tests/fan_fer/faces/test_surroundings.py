"""Detectors amid other work: what a process has set does not change what they find, and they change nothing of it."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fan_fer.base.errors import FanFerError
from fan_fer.faces import mtcnn
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.video.decoding import Video

from .test_faces import YUNET, needs_yunet

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
PRECISION = {"cpu": 1e-3, "cuda": 1.0}  # pixels; GPUs round what goes into a convolution to 11 bits
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.fixture(scope="module")
def group(clips: Path) -> np.ndarray:
    """Five faces."""
    return Video(clips / "multi_face.jpg").read([0])[0]


@pytest.fixture(scope="module", params=["mtcnn", pytest.param(f"yunet:{YUNET}", marks=needs_yunet)])
def detector(request: pytest.FixtureRequest) -> Detector:
    return load_detector(request.param)


def same(faces: list[Face], others: list[Face], pixels: float = 0.01) -> None:
    assert len(faces) == len(others)
    for one, other in zip(faces, others, strict=True):
        np.testing.assert_allclose(one.box, other.box, atol=pixels)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=pixels)
        assert one.score == pytest.approx(other.score, abs=1e-2 * pixels)


def settings() -> tuple[object, ...]:
    """What a process can set in torch, as it is now."""
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().tolist(),
    )


def default_dtype(stack: ExitStack) -> None:
    torch.set_default_dtype(torch.float64)
    stack.callback(torch.set_default_dtype, torch.float32)


def default_device(stack: ExitStack) -> None:
    torch.set_default_device("meta")
    stack.callback(torch.set_default_device, None)


def deterministic(stack: ExitStack) -> None:
    torch.use_deterministic_algorithms(True)
    stack.callback(torch.use_deterministic_algorithms, False)


def block(context: Callable[[], AbstractContextManager[object]]) -> Callable[[ExitStack], None]:
    return lambda stack: stack.enter_context(context()) and None


SURROUNDINGS = {
    "autocast on the CPU": block(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "autocast on a GPU": block(lambda: torch.autocast("cuda") if torch.cuda.is_available() else nullcontext()),
    "float64 by default": default_dtype,
    "another device by default": default_device,
    "gradients": block(torch.enable_grad),
    "no gradients": block(torch.no_grad),
    "inference mode": block(torch.inference_mode),
    "deterministic algorithms": deterministic,
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_mtcnn_finds_the_same_whatever_is_set(surroundings: str, device: str, group: np.ndarray) -> None:
    plain = MTCNN(device=device)
    pixels = PRECISION[device]
    expected = plain.detect(group)
    followed = plain.follow(group, expected)
    assert len(expected) == 5
    mtcnn._read_weights.cache_clear()
    with ExitStack() as stack:
        SURROUNDINGS[surroundings](stack)
        before = settings()
        loaded = MTCNN(device=device)
        for detector in (plain, loaded):
            same(detector.detect(group), expected, pixels)
            same(
                [face for face in detector.follow(group, expected) if face], [face for face in followed if face], pixels
            )
        assert settings() == before
    same(loaded.detect(group), expected, pixels)


def test_mtcnn_takes_one_thread_and_others_keep_theirs(group: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, resize, seen = MTCNN(), cv2.resize, set()

    def look(*arguments: Any, **options: Any) -> np.ndarray:  # called amid every detection
        with ThreadPoolExecutor(1) as pool:
            seen.add((torch.get_num_threads(), pool.submit(torch.get_num_threads).result()))
        resized: np.ndarray = resize(*arguments, **options)
        return resized

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        monkeypatch.setattr(cv2, "resize", look)
        detector.follow(group, detector.detect(group))
        assert seen == {(1, 3)}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", DEVICES)
def test_several_images_at_once(device: str, group: np.ndarray, clips: Path) -> None:
    portrait = Video(clips / "single_face.jpg").read([0])[0]
    images = [group, portrait, np.zeros_like(group), np.ascontiguousarray(group[:, ::-1]), portrait[:300]]
    detector = MTCNN(device=device)
    found = detector.detect_many(images)
    assert [len(faces) for faces in found] == [5, 1, 0, 5, 1]
    for image, faces in zip(images, found, strict=True):
        same(faces, detector.detect(image), PRECISION[device])
        same(faces, MTCNN().detect(image), PRECISION[device])
    assert detector.detect_many([]) == []


def test_one_batch_for_images_of_one_size(group: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    detector = MTCNN()
    images = [group, np.zeros_like(group), np.ascontiguousarray(group[:, ::-1])]
    expected = detector.detect_many(images)
    monkeypatch.setattr(detector, "together", 2)
    for faces, others in zip(detector.detect_many(images), expected, strict=True):
        same(faces, others)


def test_threads_may_share_a_detector(detector: Detector, group: np.ndarray) -> None:
    images = [group[: 200 + 20 * i, : 330 + 15 * i] for i in range(8)] * 2
    expected = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for faces, others in zip(pool.map(detector.detect, images), expected, strict=True):
            same(faces, others, 0)


def test_arrays_of_every_kind(detector: Detector, group: np.ndarray) -> None:
    expected = detector.detect(group)
    locked = group.copy()
    locked.flags.writeable = False
    mirrored = np.ascontiguousarray(group[:, ::-1])[:, ::-1]
    for image in (locked, mirrored, np.asfortranarray(group), np.repeat(group, 2, axis=2)[..., ::2]):
        same(detector.detect(image), expected, 0)
    for shape in ((3, 9000), (9000, 3), (1, 1), (1, 700), (20, 4000)):
        assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_following_no_face(group: np.ndarray) -> None:
    assert MTCNN().follow(group, []) == []


def test_weights_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    MTCNN()
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    MTCNN(smallest=0.2)


@pytest.mark.parametrize("spec", ["mtcnn", pytest.param(f"yunet:{YUNET}", marks=needs_yunet)])
def test_a_detector_can_be_copied_and_sent_to_another_process(spec: str, group: np.ndarray) -> None:
    detector = load_detector(spec)
    same(pickle.loads(pickle.dumps(detector)).detect(group), detector.detect(group), 0)
    same(copy.deepcopy(detector).detect(group), detector.detect(group), 0)


def test_devices_that_are_not_there() -> None:
    for device in ("cuda:99", "meta", "gpu"):
        with pytest.raises(FanFerError, match=rf'^device "{device}": .*use "cpu"|is wanted') as caught:
            load_detector("mtcnn", device)
        assert "\n" not in str(caught.value)


@needs_yunet
def test_yunet_in_a_file_whose_name_is_not_text(tmp_path: Path, group: np.ndarray) -> None:
    file = tmp_path / os.fsdecode(b"yunet-\xff.onnx")
    shutil.copy(YUNET, file)
    same(load_detector(f"yunet:{file}").detect(group), load_detector(f"yunet:{YUNET}").detect(group), 0)
