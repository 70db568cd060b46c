"""The scores of clips of different length, from the features of their frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork

FRAMES = 1 << 16  # classified at a time


@dataclass(frozen=True)
class PackedFeatures:
    """Clips of different length back to back: clip k is rows ``offsets[k]`` to ``offsets[k + 1]``."""

    features: Tensor  # (T, D) float32
    offsets: Tensor  # (K + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, clips: Sequence[int]) -> PackedFeatures:
        """These clips, in this order."""
        rows = [self.features[self.offsets[clip] : self.offsets[clip + 1]] for clip in clips]
        lengths = torch.tensor([0, *(len(row) for row in rows)])
        return PackedFeatures(torch.cat(rows) if rows else self.features[:0], lengths.cumsum(0))


@dataclass(frozen=True)
class ClipScores:
    """What a network says about clips.

    probabilities: (n, C), of the clips.
    weights: the final weights of each clip's frames, (n_i,), sum 1.
    frame_probabilities: (n_i, C), each frame as a clip of its own.
    """

    probabilities: NDArray[np.float64]
    weights: list[NDArray[np.float64]]
    frame_probabilities: list[NDArray[np.float64]]


@torch.inference_mode()
def classify(
    network: FrameAttentionNetwork, packed: PackedFeatures, clips: Sequence[int], formula: str = "paper"
) -> ClipScores:
    """The network's scores of these clips, all frames of each, in ragged batches."""
    network.eval()
    device = network.classifier.weight.device
    probabilities, weights, own = [], [], []
    for chosen in _chunks(packed, clips):
        batch = packed.select(chosen)
        lengths = batch.offsets.diff().tolist()
        features = batch.features.to(device)
        output = network.classify(features, offsets=batch.offsets.to(device), formula=formula)
        probabilities.append(output.logits.double().softmax(-1).cpu())
        share = output.weights.final.double().cpu()
        weights += [part / part.sum().clamp_min(1e-300) for part in share.split(lengths)]
        alone = network.classify(features.unsqueeze(1), formula=formula).logits.double().softmax(-1).cpu()
        own += list(alone.split(lengths))
    return ClipScores(
        torch.cat(probabilities).numpy() if probabilities else np.zeros((0, network.classifier.out_features)),
        [part.numpy() for part in weights],
        [part.numpy() for part in own],
    )


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
