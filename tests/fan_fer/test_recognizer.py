"""From videos and crops to predictions: a random network and red squares for the rules, real clips for the sense."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fan_fer
from fan_fer import EMOTIONS, ClipPrediction, FanFerError, FrameAttentionNetwork, Recognizer
from fan_fer.attention.weights import DEFAULT_WEIGHTS, ModelCard
from fan_fer.base.errors import DetectorError, VideoError, WeightsError
from fan_fer.faces.face import Face

from .fakes import PREPROCESSING, SquareDetector, every_nth, write_video


def make_recognizer(variant: str = "fan", detector: object = None) -> Recognizer:
    """A network of random weights whose attention tells frames apart."""
    torch.manual_seed(0)
    network = FrameAttentionNetwork(variant)
    for parameter in network.attention.parameters() if network.attention else ():
        torch.nn.init.normal_(parameter, std=0.2)
    card = ModelCard(variant, PREPROCESSING, trained_on="nothing", license="MIT")
    return Recognizer(network, card, weights_file="random", detector=detector or SquareDetector())


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return make_recognizer()


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 40, 48, 3), np.uint8)


def weights_of(clip: ClipPrediction) -> list[float | None]:
    return [frame.weight for frame in clip.frames]


# Videos


def test_every_frame_is_listed_and_weights_sum_to_one(recognizer: Recognizer, tmp_path: Path) -> None:
    squares = [[(10 + i, 8, 20 + i)] for i in range(5)] + [[], []] + [[(16, 8, 25)]]
    clip = recognizer.predict(write_video(tmp_path / "clip.mp4", squares))
    assert (clip.frames_total, clip.frames_with_face, clip.fps) == (8, 6, 25)
    assert [frame.index for frame in clip.frames] == list(range(8))
    assert [frame.time for frame in clip.frames] == pytest.approx([i / 25 for i in range(8)], abs=1e-3)
    assert [frame.has_face for frame in clip.frames] == [True] * 5 + [False] * 2 + [True]
    assert math.isclose(sum(weight or 0 for weight in weights_of(clip)), 1, abs_tol=1e-9)
    assert clip.frames[7].box == pytest.approx((16, 8, 25, 25), abs=2)
    assert clip.video == str(tmp_path / "clip.mp4")
    assert clip.model == {
        "variant": "fan",
        "backbone": "resnet18",
        "detector": "squares",
        "trained_on": "nothing",
        "license": "MIT",
    }
    gap = clip.frames[5]
    assert (gap.box, gap.landmarks, gap.alpha, gap.beta, gap.weight, gap.emotion, gap.probabilities) == (None,) * 7


def test_weight_is_the_normalised_product(recognizer: Recognizer, crops: np.ndarray) -> None:
    clip = recognizer.classify_clip(crops)
    product = np.array([frame.alpha * frame.beta for frame in clip.frames])
    assert product.std() > 1e-3
    np.testing.assert_allclose(weights_of(clip), product / product.sum(), rtol=1e-5)
    assert list(clip.probabilities) == list(EMOTIONS)
    assert clip.label == max(clip.probabilities, key=lambda name: clip.probabilities[name])
    assert math.isclose(sum(clip.probabilities.values()), 1, abs_tol=1e-9)


def test_a_single_frame_weighs_all(recognizer: Recognizer, tmp_path: Path) -> None:
    clip = recognizer.predict(write_video(tmp_path / "one.mp4", [[(10, 10, 30)]]))
    assert weights_of(clip) == [1.0]
    assert clip.frames[0].probabilities == pytest.approx(clip.probabilities, abs=1e-6)


def test_the_largest_face_is_the_subject(recognizer: Recognizer, tmp_path: Path) -> None:
    squares = [[(4, 4, 12), (40 + i, 20, 36)] for i in range(6)]
    clip = recognizer.predict(write_video(tmp_path / "two.mp4", squares))
    assert [frame.box[0] for frame in clip.frames] == pytest.approx([40 + i for i in range(6)], abs=2)


@pytest.mark.parametrize("size", [(97, 65), (33, 101), (16, 16)])
def test_odd_sizes(recognizer: Recognizer, tmp_path: Path, size: tuple[int, int]) -> None:
    clip = recognizer.predict(write_video(tmp_path / "odd.avi", [[(2, 3, 12)]] * 3, size=size))
    assert clip.frames_with_face == 3


def test_a_clip_longer_than_a_batch(recognizer: Recognizer, tmp_path: Path) -> None:
    clip = recognizer.predict(write_video(tmp_path / "long.mp4", [[(10 + i % 7, 10, 30)] for i in range(70)]))
    assert clip.frames_with_face == 70
    assert math.isclose(sum(weights_of(clip)), 1, abs_tol=1e-9)


def test_no_face_is_an_error_that_counts_the_frames(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write_video(tmp_path / "empty.mp4", [[]] * 4)
    with pytest.raises(VideoError, match=rf"^{path}: no face found in any of the 4 frames; .* is wanted$"):
        recognizer.predict(path)


class Degenerate(SquareDetector):
    """Puts all landmarks of the first frame on one point."""

    def detect(self, image: np.ndarray) -> list[Face]:
        faces = super().detect(image)
        return [Face(f.box, f.landmarks * 0 + 5, 1.0) for f in faces] if self.calls == 1 else faces


def test_a_face_that_cannot_be_aligned_counts_as_absent(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [[(10, 10, 30)]] * 3)
    clip = make_recognizer(detector=Degenerate()).predict(path)
    assert [frame.has_face for frame in clip.frames] == [False, True, True]


def test_progress_counts_the_frames(recognizer: Recognizer, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    path = write_video(tmp_path / "clip.mp4", [[(10, 10, 30)], [], [(10, 10, 30)]])
    recognizer.predict(path, lambda *call: calls.append(call))
    assert calls == [("faces", done, 3) for done in (1, 2, 3)]


def test_a_clip_from_video_equals_its_crops(recognizer: Recognizer, tmp_path: Path) -> None:
    from fan_fer.faces.align import align_face
    from fan_fer.video.decoding import Video

    path = write_video(tmp_path / "clip.mp4", [[(10 + i, 10, 30)] for i in range(4)])
    clip = recognizer.predict(path)
    template = np.asarray(PREPROCESSING.template, np.float32)
    crops = [
        align_face(frame.image, np.array(clip.frames[frame.index].landmarks, np.float32), 32, template)
        for frame in Video(path)
    ]
    assert recognizer.classify_clip(crops).probabilities == pytest.approx(clip.probabilities, abs=1e-6)


# Aligned faces


@pytest.mark.parametrize("variant", ["fan", "self", "score-fusion"])
def test_variants(variant: str, crops: np.ndarray) -> None:
    clip = make_recognizer(variant).classify_clip(crops)
    assert all((frame.alpha is None) == (variant == "score-fusion") for frame in clip.frames)
    assert all((frame.beta is None) == (variant != "fan") for frame in clip.frames)
    if variant == "score-fusion":
        assert weights_of(clip) == pytest.approx([1 / 6] * 6, abs=1e-9)
        mean = np.mean([list(frame.probabilities.values()) for frame in clip.frames], axis=0)
        np.testing.assert_allclose(list(clip.probabilities.values()), mean, atol=1e-6)


def test_classify_faces_is_each_face_as_a_clip(recognizer: Recognizer, crops: np.ndarray) -> None:
    each = recognizer.classify_faces(crops)
    assert each.shape == (6, 7)
    np.testing.assert_allclose(each.sum(axis=1), 1, atol=1e-6)
    for row, crop in zip(each, crops, strict=True):
        alone = recognizer.classify_clip(crop[None])
        # bf16 rounds otherwise in a batch of another size.
        np.testing.assert_allclose(row, list(alone.probabilities.values()), atol=1e-3)
    frames = recognizer.classify_clip(crops).frames
    np.testing.assert_allclose(each, [list(frame.probabilities.values()) for frame in frames], atol=1e-6)


def test_crops_of_different_sizes(recognizer: Recognizer, crops: np.ndarray) -> None:
    mixed = [crops[0], crops[1][:32, :20], np.full((200, 180, 3), 80, np.uint8)]
    clip = recognizer.classify_clip(mixed)
    assert clip.frames_with_face == 3
    np.testing.assert_allclose(recognizer.classify_faces(mixed)[0], recognizer.classify_faces(crops)[0], atol=1e-6)


def test_masked_crops_do_not_count(recognizer: Recognizer, crops: np.ndarray) -> None:
    mask = [True, False, True, True, False, True]
    clip = recognizer.classify_clip(crops, mask)
    assert [frame.has_face for frame in clip.frames] == mask
    assert (clip.frames_total, clip.frames_with_face) == (6, 4)
    assert clip.probabilities == pytest.approx(recognizer.classify_clip(crops[mask]).probabilities, abs=1e-6)
    assert all(frame.time is None for frame in clip.frames)


def test_faces_need_no_detector(crops: np.ndarray) -> None:
    recognizer = make_recognizer(detector="no such detector")
    recognizer.classify_clip(crops)
    with pytest.raises(DetectorError, match="no such detector"):
        recognizer.predict("clip.mp4")
    with pytest.raises(DetectorError, match="no such detector"):
        next(recognizer.stream("clip.mp4"))


def test_no_faces_give_an_empty_array(recognizer: Recognizer) -> None:
    assert recognizer.classify_faces(np.zeros((0, 10, 10, 3), np.uint8)).shape == (0, 7)


@pytest.mark.parametrize(
    ("faces", "error", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), TypeError, r"faces\[0\]: got dtype float32; wanted .*uint8"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"faces: got an array of shape \(8, 8, 3\); .* faces\[None\]"),
        (np.zeros((2, 8, 8), np.uint8), ValueError, r"faces: got an array of shape \(2, 8, 8\); wanted"),
        (np.zeros((2, 3, 8, 8), np.uint8), ValueError, r"faces\[0\]: got shape \(3, 8, 8\); wanted"),
        (np.zeros((2, 0, 8, 3), np.uint8), ValueError, r"faces\[0\]: got shape \(0, 8, 3\); wanted"),
        ([np.zeros((8, 8, 3), np.uint8), None], TypeError, r"faces\[1\]: got NoneType; wanted"),
        (torch.zeros(2, 8, 8, 3), TypeError, "faces: got Tensor; wanted"),
        ([], ValueError, "faces: none of 0 frames"),
    ],
)
def test_wrong_faces_are_named(recognizer: Recognizer, faces: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        recognizer.classify_clip(faces)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([1, 0, 1, 1, 1, 1], TypeError, "mask: got dtype int64; wanted bool"),
        ([True] * 5, ValueError, r"mask: got shape \(5,\); wanted \(6,\)"),
        ([False] * 6, ValueError, "mask: none of 6 frames is present"),
    ],
)
def test_wrong_masks_are_named(
    recognizer: Recognizer, crops: np.ndarray, mask: list[bool], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recognizer.classify_clip(crops, mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:99"}, r'^device "cuda:99": .* finds no such GPU here; use "cpu"$'),
        ({"device": "gpu"}, r'^device "gpu": unknown; "auto", "cpu", "cuda" or "mps" is wanted$'),
        ({"device": "cpu", "precision": "float16"}, r'^precision "float16": is for GPUs'),
        ({"precision": "int8"}, r'^precision "int8": unknown'),
        ({"batch_size": 0}, r"^batch size 0: at least 1 is wanted$"),
    ],
)
def test_devices_and_settings_that_are_not_there(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FanFerError, match=message):
        fan_fer.load_recognizer(**options)
    network = FrameAttentionNetwork("fan")
    with pytest.raises(FanFerError, match=message):
        Recognizer(network, ModelCard("fan", PREPROCESSING, trained_on="", license=""), weights_file="", **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu() -> None:
    with pytest.raises(FanFerError, match=r'^device "cuda": .* finds no such GPU here; use "cpu"$'):
        fan_fer.load_recognizer(device="cuda")


# The trained network on real clips


needs_weights = pytest.mark.skipif(not DEFAULT_WEIGHTS.exists(), reason="the trained network is not in the tree")


@pytest.fixture(scope="module")
def trained() -> Recognizer:
    return fan_fer.load_recognizer()


@needs_weights
def test_crying_reads_as_sad_and_laughing_as_happy(trained: Recognizer, clips: Path, tmp_path: Path) -> None:
    clip = trained.predict(every_nth(clips / "WolfgangLanger_Pexels.mp4", tmp_path / "part.avi", 12))
    seen = [(frame.time, frame.emotion) for frame in clip.frames if frame.has_face]
    crying = Counter(emotion for time, emotion in seen if time < 6)
    laughing = Counter(emotion for time, emotion in seen if time > 11)
    assert crying.most_common(1)[0][0] == "Sad", crying
    assert laughing["Happy"] >= 0.9 * laughing.total() > 0, laughing


@needs_weights
def test_a_smile_reads_as_happy(trained: Recognizer, clips: Path, tmp_path: Path) -> None:
    clip = trained.predict(every_nth(clips / "single_face.mp4", tmp_path / "part.avi", 6))
    smiling = [frame.emotion for frame in clip.frames if frame.time > 1]
    assert smiling.count("Happy") >= 0.9 * len(smiling) > 0, smiling
    assert clip.label == "Happy"
    assert clip.frames_with_face == clip.frames_total


# Numbers that break


class BrokenDetector(SquareDetector):
    """Gives a number that is none in the frames from the third on."""

    def __init__(self, **broken: object) -> None:
        super().__init__()
        self.broken = broken

    def detect(self, image: np.ndarray) -> list[Face]:
        found = super().detect(image)
        return [replace(face, **self.broken) for face in found] if self.calls > 2 else found


@pytest.mark.parametrize(
    "broken",
    [{"box": (1.0, math.nan, 20.0, 20.0)}, {"score": math.inf}, {"landmarks": np.full((5, 2), np.nan, np.float32)}],
    ids=["box", "score", "landmarks"],
)
def test_a_detector_whose_numbers_are_none_is_named(broken: dict[str, object]) -> None:
    images = np.full((4, 64, 96, 3), 128, np.uint8)
    images[:, 8:40, 10:42] = (250, 10, 10)
    recognizer = make_recognizer(detector=BrokenDetector(**broken))
    message = r"^detector squares: its face in frame 2 has numbers that are not finite$"
    for read in (recognizer.predict, recognizer.predict_faces, lambda clip: list(recognizer.stream(clip))):
        recognizer.detector.calls = 0
        with pytest.raises(DetectorError, match=message):
            read(images)
    face = replace(SquareDetector().detect(images[0])[0], **broken)
    with pytest.raises(ValueError, match=r"^faces\[0\]: has numbers that are not finite; finite ones are"):
        recognizer.predict(images, faces=[face])


def overflowing(variant: str, part: str) -> Recognizer:
    """A network of finite weights whose numbers overflow all the same."""
    recognizer = make_recognizer(variant)
    with torch.no_grad():
        if part == "classifier":
            recognizer.network.classifier.weight.fill_(3e38)
            recognizer.network.classifier.weight[0] = -3e38
        else:
            recognizer.network.backbone.layer4[1].conv2.weight.fill_(3e38)
    return Recognizer(recognizer.network, recognizer.card, weights_file="w", detector=SquareDetector())


@pytest.mark.parametrize("variant", ["fan", "self", "score-fusion"])
@pytest.mark.parametrize("part", ["classifier", "backbone"])
def test_a_network_that_overflows_has_no_label(crops: np.ndarray, variant: str, part: str) -> None:
    recognizer = overflowing(variant, part)
    images = np.full((4, 64, 96, 3), 128, np.uint8)
    images[:, 8:40, 10:42] = (250, 10, 10)
    calls = (
        lambda: recognizer.predict(images),
        lambda: recognizer.predict_faces(images),
        lambda: list(recognizer.stream(images)),
        lambda: recognizer.classify_clip(crops),
        lambda: recognizer.classify_faces(crops),
    )
    for call in calls:
        with pytest.raises(WeightsError, match=r"^the (backbone|network).* not finite; other weights are wanted$"):
            call()
