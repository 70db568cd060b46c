"""What a network says of clips, from the features of their frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.errors import WeightsError

NOT_FINITE = "the network's probabilities for this clip are not finite; other weights are wanted"
FRAMES = 1 << 16  # scored at a time
ALONE = 1024  # frames taken as clips of their own at a time: their pooled features are larger than the frames'

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClipScores:
    """What a network says of a clip of n frames.

    probabilities: (C,), of the clip.
    weights: (n,), the frames' shares in it; their sum is 1.
    own: (n, C), the probabilities of each frame as a clip of its own.
    alpha, beta: (n,), the weights of self-attention and of relation-attention; None for a network without.
    """

    probabilities: Floats
    weights: Floats
    own: Floats
    alpha: Floats | None = None
    beta: Floats | None = None

    @property
    def is_finite(self) -> bool:
        """Whether they say anything: a network whose numbers overflow has no most probable class."""
        parts = (self.probabilities, self.weights, self.own, self.alpha, self.beta)
        return all(bool(np.isfinite(part).all()) for part in parts if part is not None)


@dataclass(frozen=True)
class PackedFeatures:
    """Clips of different length back to back: clip k is rows ``offsets[k]`` to ``offsets[k + 1]``."""

    features: Tensor  # (T, D) float32
    offsets: Tensor  # (K + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, clips: Sequence[int]) -> PackedFeatures:
        """These clips, in this order."""
        if list(clips) == list(range(len(self))):
            return self
        rows = [self.features[self.offsets[clip] : self.offsets[clip + 1]] for clip in clips]
        lengths = torch.tensor([0, *(len(row) for row in rows)], device="cpu")
        return PackedFeatures(torch.cat(rows) if rows else self.features[:0], lengths.cumsum(0))


def score_clip(network: FrameAttentionNetwork, features: Tensor, formula: str = "paper") -> ClipScores:
    """The scores of one clip of ``features`` (n, D), n at least 1. Raises WeightsError where they are not finite."""
    packed = PackedFeatures(features, torch.tensor([0, len(features)], device="cpu"))
    scores = score_clips(network, packed, [0], formula)[0]
    if not scores.is_finite:
        raise WeightsError(NOT_FINITE)
    return scores


def score_clips(
    network: FrameAttentionNetwork, packed: PackedFeatures, clips: Sequence[int], formula: str = "paper"
) -> list[ClipScores]:
    """The scores of these clips, all frames of each; not finite where the network's numbers overflow."""
    network.eval()
    device = network.classifier.weight.device
    scores = []
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for chosen in _chunks(packed, clips):
            batch = packed.select(chosen)
            features = batch.features.to(device)
            logits, weights = network.classify(features, offsets=batch.offsets.to(device), formula=formula)
            # In one piece: small ones that stay, between larger ones that come and go, would spread memory out.
            alone = logits.new_empty(len(features), logits.shape[1])
            for part, own in zip(features.split(ALONE), alone.split(ALONE), strict=True):
                own[:] = network.classify(part.unsqueeze(1), formula=formula).logits
            lengths = batch.offsets.diff().tolist()
            scores += [
                ClipScores(clip, final / max(final.sum(), 1e-300), own, alpha, beta)
                for clip, final, own, alpha, beta in zip(
                    _softmax(logits),
                    _split(weights.final, lengths),
                    _split(alone.double().softmax(-1), lengths),
                    _split(weights.alpha, lengths),
                    _split(weights.beta, lengths),
                    strict=True,
                )
            ]
    return scores


def _softmax(logits: Tensor) -> Floats:
    return np.asarray(logits.double().softmax(-1).cpu().numpy())


def _split(values: Tensor | None, lengths: Sequence[int]) -> list[Any]:
    """The part of each clip; None for each where there are none."""
    if values is None:
        return [None] * len(lengths)
    return [part.numpy() for part in values.double().cpu().split(list(lengths))]


def _chunks(packed: PackedFeatures, clips: Sequence[int]) -> Iterable[list[int]]:
    """The clips in order, in groups of at most FRAMES frames, but one clip at least."""
    lengths = packed.offsets.diff().tolist()
    group: list[int] = []
    frames = 0
    for clip in clips:
        if group and frames + lengths[clip] > FRAMES:
            yield group
            group, frames = [], 0
        group.append(clip)
        frames += lengths[clip]
    if group:
        yield group
