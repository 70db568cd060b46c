"""Measures a weights file: single faces, video clips, clips mixed from single faces, and what attention attends to.

    python -m pretraining.score --data ferplus.npz --clips ict-afew/Val_AFEW --detector yunet:FILE \
        [--weights FILE] [--pictures FOLDER]

Prints Markdown tables with 95 % intervals; writes, where asked, the confusion matrices and a reliability diagram.
"""

from __future__ import annotations

import argparse
import re
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
from fan_fer.evaluation.metrics import Scores, difference, score
from fan_fer.evaluation.pictures import write_confusion, write_reliability
from fan_fer.evaluation.text import difference_texts, markdown_table, ranking_text, share_text
from fan_fer.faces.detectors import load_detector
from fan_fer.recognizer import Recognizer, load_recognizer
from pretraining.augment import degrade
from pretraining.features import FRAME_TRUTH, ClipSet, load_faces, set_name
from pretraining.ferplus import HALVES, load_ferplus, rgb
from pretraining.mixed_clips import NEUTRAL, ClipMaker, FacePool

HEADINGS = ["", "accuracy %", "mean recall %", "calibration error", "ROC area of the weights", "of 1 - p(neutral)"]
AGAINST_MEAN = ["mean of the frames' probabilities", "accuracy %", "mean recall %", "FAN - mean, points", "of recall"]
CLIPS = 2000  # of each kind that are mixed from faces
EVERY, EVERY_AGREED = "FER+ valid faces", "FER+ valid faces with a majority"
FACES, AGREED = "their reporting half", "its faces with a majority"
PLAIN, USUAL, BRIEF = "plain clips of it", "plain clips, emotions as frequent as in it", "brief clips of it"


@dataclass(frozen=True)
class Measured:
    """One set: the network's scores and, for clips, what its frames say on average, and how well weights rank them."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    mean: NDArray[np.float64] | None = None  # of the frames' probabilities
    attention: Attention = field(default_factory=Attention)

    @property
    def scores(self) -> Scores:
        return score(EMOTIONS, self.labels, self.probabilities[None])


@dataclass(frozen=True)
class Figures:
    sets: Mapping[str, Measured]

    def to_scores(self) -> dict[str, float]:
        """For a model card: plain numbers, shares of 1."""
        found = {}
        for name, measured in self.sets.items():
            prefix = re.sub(r"\W+", "_", name.replace("+", "plus")).lower()
            scores = measured.scores
            found[f"{prefix}_accuracy"] = scores.accuracy
            found[f"{prefix}_mean_recall"] = scores.mean_recall
            found[f"{prefix}_calibration_error"] = scores.calibration_error
            if measured.attention.weights is not None:
                found[f"{prefix}_roc_area"] = measured.attention.weights.mean
        return {name: round(value, 4) for name, value in found.items()}

    def to_markdown(self) -> str:
        clips = {name: measured for name, measured in self.sets.items() if measured.mean is not None}
        faces = self.sets[EVERY]
        counts = np.bincount(faces.labels, minlength=len(EMOTIONS))
        recalls = [faces.scores.recalls[name] for name in EMOTIONS]
        return "\n\n".join([
            markdown_table(
                HEADINGS,
                [_row(name, measured) for name, measured in self.sets.items()],
            ),
            markdown_table(
                AGAINST_MEAN,
                [_row_against_mean(name, measured) for name, measured in clips.items()],
            ),
            markdown_table([EVERY, *EMOTIONS], [
                ["recall %", *("-" if recall is None else f"{100 * recall:.1f}" for recall in recalls)],
                ["how many", *map(str, counts)],
            ]),
        ])  # fmt: skip


def _row(name: str, measured: Measured) -> list[str]:
    scores = measured.scores
    return [
        f"{name}, {len(measured.labels)}",
        share_text(scores.accuracy, scores.accuracy_interval),
        share_text(scores.mean_recall, scores.mean_recall_interval),
        f"{scores.calibration_error:.3f}",
        ranking_text(measured.attention.weights),
        ranking_text(measured.attention.rule),
    ]


def _row_against_mean(name: str, measured: Measured) -> list[str]:
    assert measured.mean is not None
    mean = score(EMOTIONS, measured.labels, measured.mean[None])
    change = difference(measured.labels, measured.probabilities[None], measured.mean[None])
    return [
        name,
        share_text(mean.accuracy, mean.accuracy_interval),
        share_text(mean.mean_recall, mean.mean_recall_interval),
        *difference_texts(change),
    ]


def measure(recognizer: Recognizer, data: Path, clips: Path, faces: ClipSet) -> Figures:
    """``recognizer`` on the FER+ valid split and on a folder of clips, whose aligned faces are ``faces``.

    Which frames of video clips are informative is known where there is a ``frames.csv`` in the folder: those of
    intensity above 0.2 that are not occluded.
    """
    every = load_ferplus(data, "valid")
    features = _embed(recognizer, rgb(every), "faces")
    answers, given = every.labels.argmax(dim=1), _classify_each(recognizer, features)
    report, agreed = torch.zeros(len(every), dtype=torch.bool), every.agreed
    report[HALVES.index("report") :: len(HALVES)] = True
    parts = {EVERY: report | True, EVERY_AGREED: agreed, FACES: report, AGREED: report & agreed}
    found = {name: Measured(answers[part].numpy(), given[part].double().numpy()) for name, part in parts.items()}

    rng = torch.Generator().manual_seed(0)
    size = recognizer.card.preprocessing.size
    hidden = torch.cat([degrade(batch, size, rng) for batch in every.images[report].split(128)])
    hidden_crops = (hidden[:, 0, :, :, None] * 255).round().byte().expand(-1, -1, -1, 3).numpy()
    maker = ClipMaker(
        FacePool(features[report], every.labels[report], _embed(recognizer, hidden_crops, "hidden faces"))
    )
    emotions = answers[report][torch.randint(0, int(report.sum()), (CLIPS,), generator=rng)]
    mixed = {
        PLAIN: maker.draw_plain([number % len(EMOTIONS) for number in range(CLIPS)], rng),
        USUAL: maker.draw_plain(emotions.tolist(), rng),
        BRIEF: maker.draw_brief(CLIPS, rng),
    }
    for name, made in mixed.items():
        lengths = made.mask.sum(dim=1).tolist()
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        shown = [row.bool().numpy() for row in made.informative[made.mask].split(lengths)] if name == BRIEF else None
        found[name] = _measure_clips(recognizer, made.features[made.mask], offsets, made.labels, shown)

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
    own = _classify_each(recognizer, features)
    with torch.inference_mode():
        logits, weights = recognizer.network.classify(features, offsets=offsets)
    lengths = offsets.diff().tolist()
    mean = torch.stack([frames.double().mean(dim=0) for frames in own.split(lengths)]).numpy()
    attention = Attention()
    if informative is not None:
        areas = clip_areas(weights.final.split(lengths), own.split(lengths), informative, NEUTRAL)
        attention = Attention.of(areas[:, None])
    return Measured(labels.numpy(), logits.softmax(-1).double().numpy(), mean, attention)


def _classify_each(recognizer: Recognizer, features: Tensor) -> Tensor:
    """Probabilities (T, C) of each frame (T, D) as a clip of its own."""
    with torch.inference_mode():
        return recognizer.network.classify(features.unsqueeze(1)).logits.softmax(-1)


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
    arguments = parser.parse_args()
    recognizer = load_recognizer(arguments.weights)
    faces = load_faces(arguments.clips, load_detector(arguments.detector), recognizer.card.preprocessing)
    figures = measure(recognizer, arguments.data, arguments.clips, faces)
    if arguments.pictures is not None:
        write_pictures(arguments.pictures, figures)
    print(figures.to_markdown())


if __name__ == "__main__":
    run_main(main)
