"""Measures where the reading of clips is cut, by the penalty of a segment, on clips made of FER+ valid faces.

    python -m pretraining.segments --data ferplus.npz [--weights FILE]

A clip has 25 frames a second and shows one emotion for 4 to 10 seconds, or two for 2 to 5 seconds each. A face stays
for 0.2 to 0.48 seconds, then comes another of that emotion: readings change often, and what they say on the whole once.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.scoring import score_clip
from fan_fer.attention.segments import SegmentScores, score_segments
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import first_line
from fan_fer.base.terminal import run_main
from fan_fer.evaluation.text import markdown_table
from fan_fer.recognizer import load_recognizer
from pretraining.ferplus import HALVES, load_ferplus, rgb

PENALTIES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # seconds
CLIPS = 210  # of each kind
RATE = 25  # frames a second
HELD = (5, 13)  # frames of a face, the second not among them
NEAR = 0.5  # seconds that a border may be off


@dataclass(frozen=True)
class MadeClip:
    features: Tensor  # (n, D)
    emotions: tuple[int, ...]
    border: int  # the first frame of the second emotion; n where there is none


class SegmentMaker:
    """Draws clips from faces with features (M, D) and emotions (M,)."""

    def __init__(self, features: Tensor, emotions: NDArray[np.int64]) -> None:
        self._features = features
        self._faces = [np.flatnonzero(emotions == index) for index in range(len(EMOTIONS))]

    def draw(self, rng: np.random.Generator, *emotions: int) -> MadeClip:
        parts = [self._show(emotion, rng) for emotion in emotions]
        return MadeClip(self._features[np.concatenate(parts)], emotions, len(parts[0]))

    def draw_single(self, number: int, rng: np.random.Generator) -> MadeClip:
        """Twice as long as a part of the others."""
        emotion = number % len(EMOTIONS)
        made = self.draw(rng, emotion, emotion)
        return MadeClip(made.features, (emotion,), len(made.features))

    def draw_double(self, rng: np.random.Generator) -> MadeClip:
        return self.draw(rng, *rng.choice(len(EMOTIONS), 2, replace=False).tolist())

    def _show(self, emotion: int, rng: np.random.Generator) -> NDArray[np.int64]:
        length = round(rng.uniform(2, 5) * RATE)
        faces = rng.choice(self._faces[emotion], length)
        return np.repeat(faces, rng.integers(*HELD, length))[:length]


def measure(network: FrameAttentionNetwork, maker: SegmentMaker, penalty: float) -> list[float]:
    """Shares of 1: of clips of one emotion that are one segment, and of two that are two; of the latter, those whose
    border is near the true one, and those both of whose labels are right."""
    rng = np.random.default_rng(0)
    single = [_cut(network, maker.draw_single(number, rng), penalty) for number in range(CLIPS)]
    made = [maker.draw_double(rng) for _ in range(CLIPS)]
    double = [(clip, found) for clip in made if len(found := _cut(network, clip, penalty)) == 2]
    near = [abs(found[0].end - clip.border) <= NEAR * RATE for clip, found in double]
    right = [
        tuple(int(part.scores.probabilities.argmax()) for part in found) == clip.emotions for clip, found in double
    ]
    shares = [float(np.mean(values)) if values else float("nan") for values in (near, right)]
    return [float(np.mean([len(found) == 1 for found in single])), len(double) / CLIPS, *shares]


def _cut(network: FrameAttentionNetwork, clip: MadeClip, penalty: float) -> list[SegmentScores]:
    return score_segments(network, clip.features, score_clip(network, clip.features), RATE, penalty=penalty)


def main() -> None:
    parser = argparse.ArgumentParser(prog="pretraining.segments", description=first_line(__doc__))
    parser.add_argument("--data", type=Path, required=True, help="ferplus.npz")
    parser.add_argument("--weights", type=Path, help="weights file; default: the packaged one")
    arguments = parser.parse_args()
    recognizer = load_recognizer(arguments.weights)
    makers = []
    for half in HALVES:
        faces = load_ferplus(arguments.data, half)
        features = recognizer.embedder.embed_all(rgb(faces), f"{half} faces", len(faces))
        makers.append(SegmentMaker(features, faces.labels.argmax(dim=1).numpy()))
    rows = []
    with torch.inference_mode():
        for penalty in PENALTIES:
            found = [measure(recognizer.network, maker, penalty) for maker in makers]
            rows.append([f"{penalty:g} s", *(f"{100 * share:.0f}" for shares in found for share in shares)])
    what = ["one: one segment", "two: two segments", "border within 0.5 s", "both labels right"]
    print(markdown_table(["penalty", *(f"{half}, {name} %" for half in HALVES for name in what)], rows))


if __name__ == "__main__":
    run_main(main)
