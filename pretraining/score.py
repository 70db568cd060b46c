"""Measures a weights file: single faces, video clips, clips mixed from single faces, and what attention attends to.

    python -m pretraining.score --data ferplus.npz --clips ict-afew/Val_AFEW --detector yunet:FILE \
        [--weights FILE] [--pictures FOLDER] [--answered FILE] [--device cuda]

Prints Markdown tables with 95 % intervals; writes, where asked, the confusion matrices and a reliability diagram.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import first_line
from fan_fer.base.files import make_folder
from fan_fer.base.terminal import run_main
from fan_fer.base.texts import write_json
from fan_fer.evaluation.informative import Attention, clip_areas, load_truth
from fan_fer.evaluation.metrics import Answered, Scores, difference, score, score_answered
from fan_fer.evaluation.pictures import write_confusion, write_coverage, write_reliability
from fan_fer.evaluation.text import difference_texts, markdown_table, ranking_text, share_text
from fan_fer.faces.detectors import load_detector
from fan_fer.features.embedding import Embedder
from fan_fer.recognizer import load_recognizer
from pretraining.augment import degrade
from pretraining.features import FRAME_TRUTH, ClipSet, load_faces, set_name
from pretraining.ferplus import HALVES, load_ferplus, rgb
from pretraining.mixed_clips import NEUTRAL, ClipMaker, FacePool
from pretraining.pooling import Clips

HEADINGS = ["", "accuracy %", "mean recall %", "calibration error", "ROC area of the weights", "of 1 - p(neutral)"]
AGAINST_MEAN = ["mean of the frames' probabilities", "accuracy %", "mean recall %", "FAN - mean, points", "of recall"]
ABSTAIN = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # probabilities below which no label is given
SURE = 0.8  # of them the one that a card names
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

    @property
    def mean_scores(self) -> Scores:
        """Of clips: those of the mean of the frames' probabilities."""
        assert self.mean is not None
        return score(EMOTIONS, self.labels, self.mean[None])


@dataclass(frozen=True)
class _ClipFeatures:
    """Clips back to back."""

    features: Tensor  # (T, D)
    offsets: Tensor  # (K + 1,)
    labels: Tensor  # (K,)
    informative: list[NDArray[np.bool_]] | None  # for each clip (n,); None where the frames are not ranked


@dataclass(frozen=True)
class Prepared:
    """What a network is measured on, as its backbone sees it."""

    faces: Tensor  # (N, D), all FER+ valid faces
    answers: Tensor  # (N,) what most voters see in them
    agreed: Tensor  # (N,) bool: more than half of the voters do
    report: Tensor  # (N,) bool: the half that nothing is chosen by
    clips: Mapping[str, _ClipFeatures]


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
            sure = score_answered(measured.labels, measured.probabilities, SURE)
            if sure.accuracy is not None:
                found[f"{prefix}_accuracy_from_{SURE:g}_on"] = sure.accuracy
                found[f"{prefix}_share_from_{SURE:g}_on"] = sure.answered / sure.clips
            if measured.attention.weights is not None:
                found[f"{prefix}_roc_area"] = measured.attention.weights.mean
        return {name: round(value, 4) for name, value in found.items()}

    def answered(self) -> dict[str, list[Answered]]:
        """How often each set is recognised where nothing below a probability counts, by the names of the sets."""
        return {
            f"{name}, {len(one.labels)}": [
                score_answered(one.labels, one.probabilities, abstain) for abstain in (0.0, *ABSTAIN)
            ]
            for name, one in self.sets.items()
        }

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
            markdown_table(
                ["right of those with a label, % (and how many have one)", "all", *(f"from {p:g} on" for p in ABSTAIN)],
                [[name, *map(_share_of_answered, parts)] for name, parts in self.answered().items()],
            ),
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


def _share_of_answered(part: Answered) -> str:
    if part.accuracy is None:
        return "-"
    return f"{100 * part.accuracy:.1f} ({100 * part.answered / part.clips:.0f} %)"


def _row_against_mean(name: str, measured: Measured) -> list[str]:
    assert measured.mean is not None
    mean = measured.mean_scores
    change = difference(measured.labels, measured.probabilities[None], measured.mean[None])
    return [
        name,
        share_text(mean.accuracy, mean.accuracy_interval),
        share_text(mean.mean_recall, mean.mean_recall_interval),
        *difference_texts(change),
    ]


def prepare(embedder: Embedder, data: Path, clips: Path, faces: ClipSet) -> Prepared:
    """Features of the FER+ valid split, clips mixed from its reporting half, and ``faces``, those of a folder of clips.

    Which frames of video clips are informative is known where there is a ``frames.csv`` in the folder: those of
    intensity above 0.2 that are not occluded.
    """

    def embed(crops: NDArray[np.uint8], what: str) -> Tensor:
        return embedder.embed_all(crops, what, len(crops))

    every = load_ferplus(data, "valid")
    features, answers = embed(rgb(every), "faces"), every.labels.argmax(dim=1)
    report = torch.zeros(len(every), dtype=torch.bool)
    report[HALVES.index("report") :: len(HALVES)] = True

    rng = torch.Generator().manual_seed(0)
    hidden = torch.cat([degrade(part, embedder.preprocessing.size, rng) for part in every.images[report].split(128)])
    hidden_crops = (hidden[:, 0, :, :, None] * 255).round().byte().expand(-1, -1, -1, 3).numpy()
    maker = ClipMaker(FacePool(features[report], every.labels[report], embed(hidden_crops, "hidden faces")))
    drawn = answers[report][torch.randint(0, int(report.sum()), (CLIPS,), generator=rng)]
    sets = {
        PLAIN: _packed(maker.draw_plain([number % len(EMOTIONS) for number in range(CLIPS)], rng)),
        USUAL: _packed(maker.draw_plain(drawn.tolist(), rng)),
        BRIEF: _packed(maker.draw_brief(CLIPS, rng), ranked=True),
    }
    truth = clips / FRAME_TRUTH
    informative = informative_frames(truth, faces) if truth.is_file() else None
    video = embed(faces.frames.numpy(), f"frames of {clips.name}")
    sets[set_name(clips)] = _ClipFeatures(video, faces.offsets, faces.labels, informative)
    return Prepared(features, answers, every.agreed, report, sets)


def measure(network: FrameAttentionNetwork, prepared: Prepared) -> Figures:
    """``network``, whose backbone gave the features, on all of ``prepared``."""
    given, answers = _classify_each(network, prepared.faces), prepared.answers
    parts = {
        EVERY: torch.ones_like(prepared.agreed),
        EVERY_AGREED: prepared.agreed,
        FACES: prepared.report,
        AGREED: prepared.report & prepared.agreed,
    }
    found = {name: Measured(answers[part].numpy(), given[part].double().numpy()) for name, part in parts.items()}
    return Figures(found | {name: _measure_clips(network, clips) for name, clips in prepared.clips.items()})


def _measure_clips(network: FrameAttentionNetwork, clips: _ClipFeatures) -> Measured:
    own = _classify_each(network, clips.features)
    with torch.inference_mode():
        logits, weights = network.classify(clips.features, offsets=clips.offsets)
    lengths = clips.offsets.diff().tolist()
    mean = torch.stack([frames.double().mean(dim=0) for frames in own.split(lengths)]).numpy()
    attention = Attention()
    if clips.informative is not None:
        areas = clip_areas(weights.final.split(lengths), own.split(lengths), clips.informative, NEUTRAL)
        attention = Attention.of(areas[:, None])
    return Measured(clips.labels.numpy(), logits.softmax(-1).double().numpy(), mean, attention)


def _classify_each(network: FrameAttentionNetwork, features: Tensor) -> Tensor:
    """Probabilities (T, C) of each frame (T, D) as a clip of its own."""
    with torch.inference_mode():
        return network.classify(features.unsqueeze(1)).logits.softmax(-1)


def _packed(made: Clips, ranked: bool = False) -> _ClipFeatures:
    lengths = made.mask.sum(dim=1).tolist()
    shown = [row.bool().numpy() for row in made.informative[made.mask].split(lengths)]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return _ClipFeatures(made.features[made.mask], offsets, made.labels, shown if ranked else None)


def informative_frames(path: Path, faces: ClipSet) -> list[NDArray[np.bool_]]:
    """For each clip (n,): the frame shows its clip's emotion and nothing covers the face, as the set itself tells."""
    truth = load_truth(path)
    numbers = faces.frame_numbers.split(faces.offsets.diff().tolist())
    return [truth.informative(name, frames.tolist()) for name, frames in zip(faces.names, numbers, strict=True)]


def write_pictures(folder: Path, figures: Figures) -> None:
    """The confusion matrix of every set, how far its confidence can be trusted, and accuracy over coverage."""
    make_folder(folder)
    for name, measured in figures.sets.items():
        stem = re.sub(r"\W+", "-", name.replace("+", "plus")).lower()
        write_confusion(folder / f"confusion-{stem}.png", measured.scores, name)
        write_reliability(folder / f"reliability-{stem}.png", measured.labels, measured.probabilities, name)
    drawn = {EVERY: EVERY, USUAL: "plain clips", BRIEF: "brief clips"}
    drawn |= {name: f"rendered clips ({name})" for name in [*figures.sets][-1:]}
    sets = {drawn[name]: (one.labels, one.probabilities) for name, one in figures.sets.items() if name in drawn}
    write_coverage(folder / "coverage.png", sets)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.score", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--clips", type=Path, required=True, help="folder with a folder of videos per emotion")
    parser.add_argument("--detector", default="mtcnn", help='"mtcnn" or "yunet:FILE"')
    parser.add_argument("--weights", type=Path, help="weights file; default: the packaged one")
    parser.add_argument("--pictures", type=Path, help="folder for the confusion matrices and reliability diagrams")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.add_argument("--answered", type=Path, help="JSON file for what is right above each probability")
    arguments = parser.parse_args()
    recognizer = load_recognizer(arguments.weights, arguments.device)
    detector = load_detector(arguments.detector, recognizer.device)
    faces = load_faces(arguments.clips, detector, recognizer.card.preprocessing)
    prepared = prepare(recognizer.embedder, arguments.data, arguments.clips, faces)
    figures = measure(recognizer.network.cpu(), prepared)
    if arguments.pictures is not None:
        write_pictures(arguments.pictures, figures)
    if arguments.answered is not None:
        digest = hashlib.sha256(Path(recognizer.weights_file).read_bytes()).hexdigest()
        sets = {name: [part.to_dict() for part in parts] for name, parts in figures.answered().items()}
        write_json(arguments.answered, {"sha256": digest, "sets": sets}, indent=2)
    print(figures.to_markdown())


if __name__ == "__main__":
    run_main(main)
