"""Clips made of single faces: brief ones, few of whose frames show the clip's emotion, and plain ones, all of which do.

The faces are of different people; attention pools sets of features, so it does not need one person in motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError
from pretraining.pooling import Clips, pad_clips

NEUTRAL = EMOTIONS.index("Neutral")
LENGTHS = (4, 17)  # frames of a clip, the second not among them


@dataclass(frozen=True)
class FacePool:
    """Features to make clips of."""

    features: Tensor  # (M, D)
    labels: Tensor  # (M, 7) label distributions
    degraded: Tensor  # (L, D) features of blurred or covered faces


class ClipMaker:
    """Draws clips of 4 to 16 frames from a pool."""

    def __init__(self, pool: FacePool) -> None:
        self.pool = pool
        top, emotion = pool.labels.max(dim=1)
        self._shown = [_indices(emotion == c) for c in range(len(EMOTIONS))]
        self._clear = [_indices((emotion == c) & (top >= 0.6)) for c in range(len(EMOTIONS))]
        # Distractors are faces on which the voters were divided: weaker expressions of another emotion.
        weak = (emotion != NEUTRAL) & (top < 0.6)
        self._distracting = [_indices(weak & (emotion != c)) for c in range(len(EMOTIONS))]
        lacking = [c for c in range(len(EMOTIONS)) if not (len(self._clear[c]) and len(self._distracting[c]))]
        if lacking:
            names = ", ".join(EMOTIONS[c] for c in lacking)
            raise FanFerError(f"the FER+ faces are too few to make clips of: {names}; clear and weak ones are wanted")

    def draw_plain(self, emotions: list[int], rng: Generator) -> Clips:
        """A clip of each of ``emotions``: all frames show it, as clearly or faintly as faces of that label do."""
        rows = [self.pool.features[_sample(self._shown[emotion], _integer(*LENGTHS, rng), rng)] for emotion in emotions]
        return pad_clips(rows, torch.tensor(emotions), [torch.ones(len(row)) for row in rows])

    def draw_brief(self, count: int, rng: Generator) -> Clips:
        """Each emotion as often; 15 to 60 % of the frames show it, the others are neutral, unreadable or misleading."""
        chosen = [self._draw_one(rng) for _ in range(count)]
        labels = torch.tensor([label for _, _, label in chosen])
        informative = [(torch.arange(len(frames)) < shown).float() for frames, shown, _ in chosen]
        return pad_clips([frames for frames, _, _ in chosen], labels, informative)

    def _draw_one(self, rng: Generator) -> tuple[Tensor, int, int]:
        """Frames (n, D), how many of them, from the first, show the emotion, and the emotion."""
        label = _integer(0, len(EMOTIONS), rng)
        length = _integer(*LENGTHS, rng)
        shown = max(1, round(length * (0.15 + 0.45 * float(torch.rand((), generator=rng)))))
        others = length - shown
        distractors = min(others, _integer(1, shown + 1, rng)) if torch.rand((), generator=rng) < 0.5 else 0
        unreadable = _integer(0, (others - distractors) // 2 + 1, rng)
        neutral = others - distractors - unreadable
        pool = self.pool
        frames = torch.cat([
            pool.features[_sample(self._clear[label], shown, rng)],
            pool.features[_sample(self._clear[NEUTRAL], neutral, rng)],
            pool.features[_sample(self._distracting[label], distractors, rng)],
            pool.degraded[torch.randint(0, len(pool.degraded), (unreadable,), generator=rng)],
        ])  # fmt: skip
        return frames, shown + (neutral if label == NEUTRAL else 0), label


def _indices(chosen: Tensor) -> Tensor:
    return chosen.nonzero().squeeze(1)


def _sample(indices: Tensor, count: int, rng: Generator) -> Tensor:
    return indices[torch.randint(0, len(indices), (count,), generator=rng)]


def _integer(low: int, high: int, rng: Generator) -> int:
    return int(torch.randint(low, high, (1,), generator=rng))
