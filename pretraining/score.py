"""Measures a weights file: single faces, video clips, clips mixed from single faces, and what attention attends to.

    python -m pretraining.score --data ferplus.npz --clips ict-afew/Val_AFEW --detector yunet:FILE \
        [--weights FILE] [--pictures FOLDER] [--device cuda]

Prints Markdown tables with 95 % intervals; writes, where asked, the confusion matrices and a reliability diagram.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import first_line
from fan_fer.base.files import make_folder
from fan_fer.base.terminal import run_main
from fan_fer.evaluation.informative import Attention, clip_areas, load_truth
from fan_fer.evaluation.metrics import Scores, score
from fan_fer.evaluation.pictures import write_confusion, write_reliability
from fan_fer.evaluation.text import markdown_table, ranking_text, share_text
from fan_fer.faces.detectors import load_detector
from fan_fer.recognizer import Recognizer, load_recognizer
from pretraining.augment import degrade
from pretraining.calibration import held_out_error, logits_of
from pretraining.features import FRAME_TRUTH, ClipSet, load_faces, set_name
from pretraining.ferplus import load_ferplus, rgb
from pretraining.mixed_clips import NEUTRAL, ClipMaker, FacePool

MIXED_CLIPS = 2000
FACES, AGREED, MIXED = "FER+ valid faces", "FER+ valid faces with a majority", "clips mixed from them"


@dataclass(frozen=True)
class Measured:
    """One set: the network's scores and, for clips, how well weights rank the frames."""

    scores: Scores
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    attention: Attention = field(default_factory=Attention)


@dataclass(frozen=True)
class Figures:
    sets: Mapping[str, Measured]

    def to_scores(self) -> dict[str, float]:
        """For a model card: plain numbers, shares of 1."""
        found = {}
        for name, measured in self.sets.items():
            prefix = name.replace(" ", "_").replace("+", "plus").lower()
            found[f"{prefix}_accuracy"] = measured.scores.accuracy
            found[f"{prefix}_mean_recall"] = measured.scores.mean_recall
            found[f"{prefix}_calibration_error"] = measured.scores.calibration_error
            if measured.attention.weights is not None:
                found[f"{prefix}_roc_area"] = measured.attention.weights.mean
        return {name: round(value, 4) for name, value in found.items()}

    def to_markdown(self) -> str:
        headings = [
            "",
            "accuracy %",
            "mean recall %",
            "calibration error",
            "ROC area of the weights",
            "of 1 - p(neutral)",
        ]
        rows = [
            [
                f"{name}, {measured.scores.clips}",
                share_text(measured.scores.accuracy, measured.scores.accuracy_interval),
                share_text(measured.scores.mean_recall, measured.scores.mean_recall_interval),
                f"{measured.scores.calibration_error:.3f}",
                ranking_text(measured.attention.weights),
                ranking_text(measured.attention.rule),
            ]
            for name, measured in self.sets.items()
        ]
        faces = self.sets[FACES]
        counts = np.bincount(faces.labels, minlength=len(EMOTIONS))
        recalls = [faces.scores.recalls[name] for name in EMOTIONS]
        error = held_out_error(logits_of(faces.probabilities), faces.labels)
        return "\n\n".join([
            markdown_table(headings, rows),
            f"{FACES}, each half under the temperature of the other: calibration error {error:.3f}",
            markdown_table([FACES, *EMOTIONS], [
                ["recall %", *("-" if recall is None else f"{100 * recall:.1f}" for recall in recalls)],
                ["how many", *map(str, counts)],
            ]),
        ])  # fmt: skip


def measure(recognizer: Recognizer, data: Path, clips: Path, faces: ClipSet) -> Figures:
    """``recognizer`` on the FER+ valid split and on a folder of clips, whose aligned faces are ``faces``.

    Which frames of video clips are informative is known where there is a ``frames.csv`` in the folder: those of
    intensity above 0.2 that are not occluded.
    """
    size = recognizer.card.preprocessing.size
    valid = load_ferplus(data, "valid")
    crops = rgb(valid)
    answers, given = valid.labels.argmax(dim=1), torch.from_numpy(recognizer.classify_faces(crops))

    rng = torch.Generator().manual_seed(0)
    hidden = torch.cat([degrade(batch, size, rng) for batch in valid.images.split(128)])
    hidden_crops = (hidden[:, 0, :, :, None] * 255).round().byte().expand(-1, -1, -1, 3).numpy()
    pool = FacePool(_embed(recognizer, crops, "faces"), valid.labels, _embed(recognizer, hidden_crops, "hidden faces"))
    mixed = ClipMaker(pool).draw(MIXED_CLIPS, rng)
    lengths = mixed.mask.sum(dim=1).tolist()
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    shown = [row.bool().numpy() for row in mixed.informative[mixed.mask].split(lengths)]
    found = {
        FACES: Measured(*_scored(answers, given)),
        AGREED: Measured(*_scored(answers[valid.agreed], given[valid.agreed])),
        MIXED: _measure_clips(recognizer, mixed.features[mixed.mask], offsets, mixed.labels, shown),
    }

    features = _embed(recognizer, faces.frames.numpy(), f"frames of {clips.name}")
    truth = clips / FRAME_TRUTH
    informative = informative_frames(truth, faces) if truth.is_file() else None
    found[set_name(clips)] = _measure_clips(recognizer, features, faces.offsets, faces.labels, informative)
    return Figures(found)


def _measure_clips(
    recognizer: Recognizer,
    features: Tensor,
    offsets: Tensor,
    labels: Tensor,
    informative: list[NDArray[np.bool_]] | None,
) -> Measured:
    """Clips back to back: features (T, D), offsets (K + 1,), labels (K,), and for each clip (n,) bool."""
    network = recognizer.network
    with torch.inference_mode():
        logits, weights = network.classify(features, offsets=offsets)
        own = network.classify(features.unsqueeze(1)).logits.softmax(-1)
    scores = _scored(labels, logits.softmax(-1))
    if informative is None:
        return Measured(*scores)
    lengths = offsets.diff().tolist()
    areas = clip_areas(weights.final.split(lengths), own.split(lengths), informative, NEUTRAL)
    return Measured(*scores, Attention.of(areas[:, None]))


def _scored(labels: Tensor, probabilities: Tensor) -> tuple[Scores, NDArray[np.int64], NDArray[np.float64]]:
    true, given = labels.numpy(), probabilities.double().numpy()
    return score(EMOTIONS, true, given[None]), true, given


def _embed(recognizer: Recognizer, crops: np.ndarray, what: str) -> Tensor:
    return recognizer.embedder.embed_all(crops, what, len(crops))


def informative_frames(path: Path, faces: ClipSet) -> list[NDArray[np.bool_]]:
    """For each clip (n,): the frame shows its clip's emotion and nothing covers the face, as the set itself tells."""
    truth = load_truth(path)
    numbers = faces.frame_numbers.split(faces.offsets.diff().tolist())
    return [truth.informative(name, frames.tolist()) for name, frames in zip(faces.names, numbers, strict=True)]


def write_pictures(folder: Path, figures: Figures) -> None:
    """The confusion matrix of every set, and how far the confidence in single faces can be trusted."""
    make_folder(folder)
    for name, measured in figures.sets.items():
        stem = name.replace(" ", "-").replace("+", "plus").replace("/", "-").lower()
        write_confusion(folder / f"confusion-{stem}.png", measured.scores, name)
        write_reliability(folder / f"reliability-{stem}.png", measured.labels, measured.probabilities, name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.score", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--clips", type=Path, required=True, help="folder with a folder of videos per emotion")
    parser.add_argument("--detector", default="mtcnn", help='"mtcnn" or "yunet:FILE"')
    parser.add_argument("--weights", type=Path, help="weights file; default: the packaged one")
    parser.add_argument("--pictures", type=Path, help="folder for the confusion matrices and reliability diagrams")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    arguments = parser.parse_args()
    recognizer = load_recognizer(arguments.weights, arguments.device)
    detector = load_detector(arguments.detector, recognizer.device)
    faces = load_faces(arguments.clips, detector, recognizer.card.preprocessing)
    figures = measure(recognizer, arguments.data, arguments.clips, faces)
    if arguments.pictures is not None:
        write_pictures(arguments.pictures, figures)
    print(figures.to_markdown())


if __name__ == "__main__":
    run_main(main)
