"""Measures a weights file: single faces, video clips, clips mixed from single faces, and what attention attends to.

python -m fan_fer.pretraining.score --data ferplus.npz --clips ict-afew/Val_AFEW --detector yunet:FILE [--weights FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.errors import first_line
from fan_fer.evaluation.attention import load_truth, mean_ranking
from fan_fer.faces import load_detector
from fan_fer.pretraining.augment import degrade
from fan_fer.pretraining.features import ClipSet, embed, load_faces, set_name
from fan_fer.pretraining.ferplus import load_ferplus
from fan_fer.pretraining.mixed_clips import ClipMaker, FacePool
from fan_fer.recognizer import Recognizer, load_recognizer
from fan_fer.runs import run_main

MIXED_CLIPS = 2000


def measure(recognizer: Recognizer, data: Path, clips: Path, faces: ClipSet) -> dict[str, float]:
    """Scores of ``recognizer`` on the FER+ valid split and on a folder of clips, whose aligned faces are ``faces``.

    Accuracies are shares of right answers. A ranking is the area under the ROC curve of a clip's final weights
    against "this frame shows the clip's emotion", averaged over the clips: 0.5 is chance. For video clips it needs
    ``frames.csv`` in the folder: intensity above 0.2 and not occluded.
    """
    network, preprocessing = recognizer.network, recognizer.card.preprocessing
    valid = load_ferplus(data, "valid")
    crops = valid.images.unsqueeze(-1).expand(-1, -1, -1, 3).numpy()
    answers = valid.labels.argmax(dim=1)
    predicted = torch.from_numpy(recognizer.classify_faces(crops).argmax(axis=1))
    recalls = [float((predicted == c)[answers == c].float().mean()) for c in answers.unique()]

    rng = torch.Generator().manual_seed(0)
    hidden = torch.cat([degrade(batch, preprocessing.size, rng) for batch in valid.images.split(128)])
    hidden_crops = (hidden[:, 0, :, :, None] * 255).round().byte().expand(-1, -1, -1, 3).numpy()
    pool = FacePool(_embed(recognizer, crops, "faces"), valid.labels, _embed(recognizer, hidden_crops, "hidden faces"))
    mixed = ClipMaker(pool).draw(MIXED_CLIPS, rng)
    features = _embed(recognizer, faces.frames.numpy(), f"frames of {clips.name}")
    with torch.inference_mode():
        mixed_logits, mixed_weights = network.classify(mixed.features, mixed.mask)
        logits, weights = network.classify(features, offsets=faces.offsets)

    scores = {
        "ferplus_valid_accuracy": _share(predicted == answers),
        "ferplus_valid_mean_recall": float(np.mean(recalls)),
        "mixed_clips_accuracy": _share(mixed_logits.argmax(dim=1) == mixed.labels),
        "mixed_clips_ranking": mean_ranking(
            [row[keep] for row, keep in zip(mixed_weights.final, mixed.mask, strict=True)],
            [row[keep] for row, keep in zip(mixed.informative, mixed.mask, strict=True)],
        ),
        f"{set_name(clips)}_accuracy": _share(logits.argmax(dim=1) == faces.labels),
    }
    if (clips / "frames.csv").is_file():
        lengths = faces.offsets.diff().tolist()
        informative = _informative(clips / "frames.csv", faces)
        scores[f"{set_name(clips)}_ranking"] = mean_ranking(weights.final.split(lengths), informative)
    return {name: round(score, 4) for name, score in scores.items()}


def _embed(recognizer: Recognizer, crops: np.ndarray, what: str) -> Tensor:
    settings = recognizer.card.preprocessing
    return embed(recognizer.network, lambda start, end: settings(crops[start:end]), len(crops), what)


def _share(right: Tensor) -> float:
    return float(right.float().mean())


def _informative(path: Path, faces: ClipSet) -> list[NDArray[np.bool_]]:
    """For each clip (n,): the frame shows its clip's emotion and nothing covers the face, as the set itself tells."""
    truth = load_truth(path)
    numbers = faces.frame_numbers.split(faces.offsets.diff().tolist())
    return [truth.informative(name, frames.tolist()) for name, frames in zip(faces.names, numbers, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="fan_fer.pretraining.score", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--clips", type=Path, required=True, help="folder with a folder of videos per emotion")
    parser.add_argument("--detector", default="mtcnn", help='"mtcnn" or "yunet:FILE"')
    parser.add_argument("--weights", type=Path, help="weights file; default: the packaged one")
    arguments = parser.parse_args()
    recognizer = load_recognizer(arguments.weights)
    faces = load_faces(arguments.clips, load_detector(arguments.detector), recognizer.card.preprocessing)
    print(json.dumps(measure(recognizer, arguments.data, arguments.clips, faces), indent=2))


if __name__ == "__main__":
    run_main(main)
