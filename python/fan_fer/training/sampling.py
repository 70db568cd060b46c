"""Which frames of which clips a training step sees. Everything random follows from the seed and the epoch alone."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def generator(*numbers: int) -> Generator:
    """A random generator that these numbers, in this order, determine."""
    state = 0
    for number in numbers:
        # An odd multiplier and a shift (as in splitmix64) keep neighbouring seeds apart.
        state = (state ^ (number + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return torch.Generator().manual_seed(state >> 1)


def segment_frames(count: int, segments: int, rng: Generator) -> Tensor:
    """(segments,) ascending frame indices below ``count``: one at random from each of as many equal parts.

    A clip of fewer frames than parts gives some frame more than once. ``segments`` 0: all frames.
    """
    if segments == 0:
        return torch.arange(count)
    edges = torch.arange(segments + 1) * count // segments
    low = edges[:-1].clamp_max(count - 1)
    width = (edges[1:] - low).clamp_min(1)
    return low + (torch.rand(segments, generator=rng) * width).long().clamp_max(width - 1)


def epoch_batches(labels: Tensor, batch_size: int, seed: int, epoch: int, balanced: bool = False) -> list[Tensor]:
    """The items, whose classes are ``labels`` (n,), in random order, cut into batches; the last may be smaller.

    balanced: n items of which each class that there is has as many, give or take one. An item that comes again, the
        k-th time, stands as item + k n.
    """
    rng = generator(seed, epoch)
    order = torch.randperm(len(labels), generator=rng)
    return list((_balanced(labels, rng)[order] if balanced else order).split(batch_size))


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(classes,) float32 weights by which each class that there is counts as much; their mean over the items is 1."""
    counts = labels.bincount(minlength=classes)
    return torch.where(counts > 0, len(labels) / (counts.clamp_min(1) * (counts > 0).sum()), 0.0)


def _balanced(labels: Tensor, rng: Generator) -> Tensor:
    """(n,) items, one class after the other."""
    count = len(labels)
    present = labels.unique()
    present = present[torch.randperm(len(present), generator=rng)]  # which get one more
    drawn = []
    for place, label in enumerate(present.tolist()):
        members = (labels == label).nonzero().squeeze(1)
        wanted = count // len(present) + (place < count % len(present))
        rounds = [members[torch.randperm(len(members), generator=rng)] for _ in range(-(-wanted // len(members)))]
        drawn.append(torch.cat([again + k * count for k, again in enumerate(rounds)])[:wanted])
    return torch.cat(drawn)


def share(batch: Tensor, rank: int, world: int) -> tuple[Tensor, float]:
    """The part of a global batch that process ``rank`` of ``world`` takes, and the weight of each of its items.

    With these weights the mean over the processes of their sums is the mean over the global batch. A process for which
    nothing is left takes one item with weight 0, so that all processes take every step.
    """
    own = batch[rank::world]
    if len(own) == 0:
        return batch[:1], 0.0
    return own, world / len(batch)
