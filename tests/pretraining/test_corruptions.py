"""Corrupted faces: changed, recognisably the same size and type, and the same ones every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard
from fan_fer.base.emotions import EMOTIONS
from fan_fer.faces.face import Face
from fan_fer.recognizer import Recognizer
from pretraining.corruptions import CORRUPTIONS, corrupt, measure, realign
from pretraining.ferplus import VOTE_COLUMNS

from ..fan_fer.fakes import PREPROCESSING


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_faces_and_repeats(name: str) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), np.uint8)
    first = corrupt(faces, name)
    assert first.shape == faces.shape
    assert first.dtype == np.uint8
    assert all((a != b).any() for a, b in zip(first, faces, strict=True))
    assert np.array_equal(first, corrupt(faces, name))
    assert not np.array_equal(first, corrupt(faces, name, seed=1))


def test_what_each_does() -> None:
    grey = np.full((4, 48, 48, 3), 128, np.uint8)
    assert corrupt(grey, "low light").mean() < 50
    assert (corrupt(grey, "blur") == 128).all()
    assert np.ptp(corrupt(grey, "colour cast")[0].reshape(-1, 3).mean(0)) > 5
    covered = (corrupt(grey, "half covered") != 128).any(-1).mean(axis=(1, 2))
    assert ((covered > 0.3) & (covered < 0.55)).all()
    # A vertical stripe in the middle becomes narrower when the head turns, and stays upright.
    stripe = np.zeros((1, 48, 48, 3), np.uint8)
    stripe[:, :, 12:36] = 255
    turned = corrupt(stripe, "turned 25 to 40 degrees")[0, 24, :, 0] > 127
    assert 16 <= turned.sum() < 24


def test_measure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    votes = np.array([[10 * (column == name) for column in VOTE_COLUMNS] for name in EMOTIONS * 2], np.uint8)
    images = rng.integers(0, 256, (len(votes), 48, 48), np.uint8)
    np.savez(tmp_path / "ferplus.npz", valid_images=images, valid_votes=votes)
    torch.manual_seed(0)
    recognizer = Recognizer(FrameAttentionNetwork(), ModelCard("fan", PREPROCESSING), weights_file="random")
    finder = Finder()
    rows = {row.corruption: row for row in measure(recognizer, tmp_path / "ferplus.npz", [finder])}
    assert list(rows) == ["none", *CORRUPTIONS, "aligned by finder (finds 50.0 %)"]
    faces = np.repeat(images[..., None], 3, axis=-1)
    right = recognizer.classify_faces(faces).argmax(1) == np.arange(len(votes)) % len(EMOTIONS)
    assert rows["none"].accuracy == pytest.approx(right.mean())
    assert rows["none"].mean_recall == pytest.approx(right.mean())
    assert rows["none"].change == 0
    for row in rows.values():
        assert row.interval.low <= row.accuracy <= row.interval.high
        assert row.change_interval.low <= row.change <= row.change_interval.high
    blurred = recognizer.classify_faces(corrupt(faces, "blur")).argmax(1) == np.arange(len(votes)) % len(EMOTIONS)
    assert rows["blur"].change == pytest.approx(blurred.mean() - right.mean())


class Finder:
    """Finds a face, where the template expects it, in every other picture."""

    name = "finder"

    def __init__(self) -> None:
        self.seen = 0

    def detect(self, image: np.ndarray) -> list[Face]:
        self.seen += 1
        landmarks = np.array(PREPROCESSING.template, np.float32) * 192 + 96
        return [Face((96, 96, 192, 192), landmarks, 0.9)] if self.seen % 2 else []


def test_a_face_is_cut_out_where_the_detector_sees_it() -> None:
    ramp = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    crop = realign(ramp, Finder(), PREPROCESSING)
    assert crop.shape == (PREPROCESSING.size, PREPROCESSING.size, 3)
    wanted = np.linspace(0, 255, PREPROCESSING.size)
    assert np.abs(crop[PREPROCESSING.size // 2, :, 0] - wanted).mean() < 8
