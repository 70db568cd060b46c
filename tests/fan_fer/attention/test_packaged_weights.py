"""The files that ship are those the model card describes: their checksums, and what they say of a small fixed sample.

After a change of a file: ``python -m tests.fan_fer.attention.test_packaged_weights`` prints the new values.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from fan_fer.attention.weights import packaged_weights
from fan_fer.faces.subject import subject_crops
from fan_fer.recognizer import Recognizer, load_recognizer
from fan_fer.video.sources import open_clip
from pretraining.ferplus import load_ferplus, rgb

PINNED = Path(__file__).with_name("packaged_weights.json")
CARD = Path(__file__).parents[3] / "docs" / "model-card.md"
FACES = 700  # of the FER+ valid split


def test_what_is_right_above_each_probability_is_told_of_this_file() -> None:
    """In the card and beside the file: the same numbers, of the file that ships."""
    weights = packaged_weights()["resnet18"]
    told = json.loads(weights.with_suffix(".answered.json").read_text())
    assert told["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    card = CARD.read_text()
    for name, parts in told["sets"].items():
        shares = [f"{100 * part['accuracy']:.1f} ({100 * part['answered'] / part['clips']:.0f} %)" for part in parts]
        assert f"| {' | '.join([name, *shares])} |" in card


def drawn_faces() -> np.ndarray:
    """Four drawings (4, 96, 96, 3), from a frown to a laugh."""
    faces = []
    for curve in (-14, -4, 6, 16):
        face = np.full((96, 96), 60, np.uint8)
        cv2.ellipse(face, (48, 50), (38, 46), 0, 0, 360, 190, -1)
        for x in (32, 64):
            cv2.ellipse(face, (x, 40), (7, 4), 0, 0, 360, 250, -1)
            cv2.circle(face, (x, 40), 3, 20, -1)
            cv2.line(face, (x - 9, 30), (x + 9, 30), 40, 2)
        cv2.line(face, (48, 46), (45, 58), 120, 2)
        mouth = np.array([(x, 74 + curve * (1 - ((x - 48) / 18) ** 2)) for x in range(30, 67, 3)], np.int32)
        cv2.polylines(face, [mouth.reshape(-1, 1, 2)], False, 40, 3)
        faces.append(face)
    return np.repeat(np.stack(faces)[..., None], 3, axis=-1)


def probabilities_of_drawn_faces(recognizer: Recognizer) -> list[list[float]]:
    return np.round(recognizer.classify_faces(drawn_faces()).astype(float), 4).tolist()


def readings_of_clip(recognizer: Recognizer, clips: Path) -> str:
    """The first letter of the reading of every 16th frame of the woman who cries, then laughs."""
    clip = open_clip(clips / "WolfgangLanger_Pexels.mp4")
    settings = recognizer.card.preprocessing
    crops = list(subject_crops(clip, recognizer.detector, settings.size, settings.template).values())[::16]
    return "".join(recognizer.card.classes[k][:2] for k in recognizer.classify_faces(crops).argmax(1))


def right_faces(recognizer: Recognizer, data: Path) -> int:
    """How many of the first FER+ valid faces are recognised."""
    valid = load_ferplus(data, "valid")
    predicted = recognizer.classify_faces(rgb(valid)[:FACES]).argmax(1)
    return int((predicted == valid.labels[:FACES].argmax(1).numpy()).sum())


@pytest.fixture(scope="module", params=packaged_weights())
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    return load_recognizer(request.param)


@pytest.fixture(scope="module")
def pinned(recognizer: Recognizer) -> dict[str, object]:
    return json.loads(PINNED.read_text())[recognizer.card.backbone]


def test_checksum(recognizer: Recognizer, pinned: dict[str, object]) -> None:
    path = Path(recognizer.weights_file)
    assert path.name == f"fan_{recognizer.card.backbone}.safetensors"
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checksum == pinned["sha256"]
    assert checksum in CARD.read_text()


def test_drawn_faces(recognizer: Recognizer, pinned: dict[str, object]) -> None:
    found = recognizer.classify_faces(drawn_faces())
    np.testing.assert_allclose(found, pinned["drawn_faces"], atol=2e-3)


def test_a_real_clip(recognizer: Recognizer, pinned: dict[str, object], clips: Path) -> None:
    found, wanted = readings_of_clip(recognizer, clips), str(pinned["clip"])
    assert len(found) == len(wanted)
    assert sum(a != b for a, b in zip(found, wanted, strict=True)) <= 2  # letters: one frame of thirty


def test_real_faces(recognizer: Recognizer, pinned: dict[str, object]) -> None:
    data = os.environ.get("FAN_TEST_FERPLUS")
    if not data:
        pytest.skip("FAN_TEST_FERPLUS does not name ferplus.npz, whose images may not be passed on")
    assert right_faces(recognizer, Path(data)) == pytest.approx(pinned["right_of_700"], abs=2)


if __name__ == "__main__":
    pins = {}
    for name, path in packaged_weights().items():
        network = load_recognizer(path)
        pins[name] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "drawn_faces": probabilities_of_drawn_faces(network),
            "clip": readings_of_clip(network, Path(os.environ["FAN_TEST_CLIPS"])),
            "right_of_700": right_faces(network, Path(os.environ["FAN_TEST_FERPLUS"])),
        }
    print(json.dumps(pins, indent=1))
