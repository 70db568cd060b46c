"""What real video does to a face, applied to single faces with a fixed seed: how much accuracy each costs.

    python -m pretraining.corruptions --data ferplus.npz --detector mtcnn [--weights FILE]

Prints accuracy and mean recall on the FER+ valid split as it is, under each corruption, and as our detectors align
it, as a Markdown table with 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import first_line
from fan_fer.base.terminal import progress_bar, run_main
from fan_fer.evaluation.metrics import Interval, bootstrap_interval, wilson_interval
from fan_fer.evaluation.text import interval_text, markdown_table, share_text
from fan_fer.faces.align import align_face
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.recognizer import Recognizer, load_recognizer
from pretraining.ferplus import load_ferplus, rgb


@dataclass(frozen=True)
class Row:
    """Shares of 1; ``change`` against the same faces uncorrupted, with a paired interval."""

    corruption: str
    accuracy: float
    interval: Interval
    change: float
    change_interval: Interval | None
    mean_recall: float


Face = NDArray[np.uint8]  # RGB (H, W, 3)
SEED = 0


def _blur(face: Face, rng: np.random.Generator) -> Face:
    return _as_face(cv2.GaussianBlur(face, (0, 0), len(face) * rng.uniform(0.02, 0.04)))


def _motion(face: Face, rng: np.random.Generator) -> Face:
    length = max(3, round(len(face) * rng.uniform(0.08, 0.15)))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    half = (length - 1) / 2
    for step in np.linspace(-half, half, 4 * length):
        kernel[round(half + step * np.sin(angle)), round(half + step * np.cos(angle))] = 1
    return _as_face(cv2.filter2D(face, -1, kernel / kernel.sum()))


def _low_light(face: Face, rng: np.random.Generator) -> Face:
    dark = (face / 255.0) ** rng.uniform(1.5, 2.2) * rng.uniform(0.25, 0.5)
    return _as_face(255 * (dark + rng.normal(0, 0.03, face.shape)))


def _colour(face: Face, rng: np.random.Generator) -> Face:
    return _as_face(face * rng.uniform(0.6, 1.3, 3))


def _jpeg(face: Face, rng: np.random.Generator) -> Face:
    quality = int(rng.integers(5, 20))
    _, code = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None
    return _as_face(decoded)


def _small(face: Face, rng: np.random.Generator) -> Face:
    side = int(rng.integers(len(face) // 4, len(face) // 2))
    shrunk = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return _as_face(cv2.resize(shrunk, face.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def _half_covered(face: Face, rng: np.random.Generator) -> Face:
    """A flat area from one edge to beyond a third, up to half, of the face."""
    covered, side = face.copy(), len(face)
    depth = round(side * rng.uniform(0.35, 0.5))
    edge = [np.s_[:depth], np.s_[side - depth :], np.s_[:, :depth], np.s_[:, side - depth :]][rng.integers(4)]
    covered[edge] = rng.integers(0, 256, 3)
    return _as_face(covered)


def _misaligned(face: Face, rng: np.random.Generator) -> Face:
    """Turned by up to 15 degrees, 10 % too large or small, shifted by up to 6 %: landmarks that are a little off."""
    side = len(face)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-15, 15), rng.uniform(0.9, 1.1))
    shift = np.zeros((2, 3))
    shift[:, 2] = rng.uniform(-0.06, 0.06, 2) * side
    return _as_face(cv2.warpAffine(face, matrix + shift, (side, side), borderMode=cv2.BORDER_REPLICATE))


def _turned(face: Face, rng: np.random.Generator) -> Face:
    """The picture seen from 25 to 40 degrees to the side: a turned head's foreshortening, not its profile."""
    side = len(face)
    yaw = np.radians(rng.uniform(25, 40)) * rng.choice([-1, 1])
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    depth = 1 + corners[:, 0] * np.sin(yaw) / 2
    seen = np.stack([corners[:, 0] * np.cos(yaw) / depth, corners[:, 1] / depth], axis=1)
    target = ((seen + 0.5) * side).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(((corners + 0.5) * side).astype(np.float32), target)
    return _as_face(cv2.warpPerspective(face, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE))


CORRUPTIONS: Mapping[str, Callable[[Face, np.random.Generator], Face]] = {
    "blur": _blur,
    "motion blur": _motion,
    "low light": _low_light,
    "colour cast": _colour,
    "JPEG": _jpeg,
    "small face": _small,
    "half covered": _half_covered,
    "misaligned": _misaligned,
    "turned 25 to 40 degrees": _turned,
}


def corrupt(faces: NDArray[np.uint8], name: str, seed: int = SEED) -> NDArray[np.uint8]:
    """RGB faces (N, H, W, 3) under the corruption of that name; the same seed gives the same faces."""
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name)])
    return np.stack([CORRUPTIONS[name](face, rng) for face in faces])


def measure(recognizer: Recognizer, data: Path, detectors: Sequence[Detector] = ()) -> list[Row]:
    """The FER+ valid split as it is ("none"), under each corruption, and as each detector finds and aligns it."""
    valid = load_ferplus(data, "valid")
    faces = rgb(valid)
    answers = valid.labels.argmax(dim=1).numpy()
    clean = recognizer.classify_faces(faces).argmax(axis=1) == answers
    rows = [_row("none", answers, clean, clean)]
    with progress_bar() as progress:
        for name in progress.track(CORRUPTIONS, description="corruptions"):
            right = recognizer.classify_faces(corrupt(faces, name)).argmax(axis=1) == answers
            rows.append(_row(name, answers, right, clean))
        for detector in detectors:
            settings = recognizer.card.preprocessing
            aligned = [realign(face, detector, settings) for face in progress.track(faces, description=detector.name)]
            found = np.array([crop is not None for crop in aligned])
            crops = [crop for crop in aligned if crop is not None]
            right = recognizer.classify_faces(crops).argmax(axis=1) == answers[found]
            name = f"aligned by {detector.name} (finds {100 * found.mean():.1f} %)"
            rows.append(_row(name, answers[found], right, clean[found]))
    return rows


def realign(face: Face, detector: Detector, settings: Preprocessing) -> Face | None:
    """A FER2013 face as it would come out of a video: enlarged four times, found, aligned; None where it is not found.

    The picture ends at the face, so it is continued by its edges for the detector to have something around it.
    """
    edge = len(face) // 2
    picture = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    picture = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    found = detector.detect(np.asarray(picture, np.uint8))
    if not found:
        return None
    largest = max(found, key=lambda one: one.box[2] * one.box[3])
    return align_face(picture, largest.landmarks, settings.size, np.array(settings.template, np.float32))


def _row(name: str, answers: NDArray[np.int64], right: NDArray[np.bool_], clean: NDArray[np.bool_]) -> Row:
    change = right.astype(float) - clean
    recalls = [right[answers == emotion].mean() for emotion in np.unique(answers)]
    return Row(
        name,
        float(right.mean()),
        wilson_interval(int(right.sum()), len(right)),
        float(change.mean()),
        bootstrap_interval(lambda faces: change[faces].mean(-1), len(change)),
        float(np.mean(recalls)),
    )


def _as_face(image: NDArray[np.generic]) -> Face:
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.corruptions", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--weights", type=Path, help="weights file; default: the packaged one")
    parser.add_argument("--detector", action="append", default=[], help='"mtcnn" or "yunet:FILE"; may be repeated')
    arguments = parser.parse_args()
    detectors = [load_detector(spec) for spec in arguments.detector]
    rows = [
        [
            row.corruption,
            share_text(row.accuracy, row.interval),
            f"{100 * row.change:+.1f} ({interval_text(row.change_interval)})",
            f"{100 * row.mean_recall:.1f}",
        ]
        for row in measure(load_recognizer(arguments.weights), arguments.data, detectors)
    ]
    print(markdown_table(["corruption", "accuracy %", "change", "mean recall %"], rows))


if __name__ == "__main__":
    run_main(main)
