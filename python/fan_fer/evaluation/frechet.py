"""The Frechet distance of two sets of features, taken for samples of normal distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fan_fer.attention.scoring import Floats

Features = NDArray[np.float32]

SPLITS = 5  # of the real clips in two halves
FEWEST = 4  # real clips: two in each half
SEED = 0


@dataclass(frozen=True)
class Moments:
    """count: n. mean: (D,). root: (min(n, D), D), whose square, root^T root, is the covariance of the n rows."""

    count: int
    mean: Floats
    root: Floats

    @classmethod
    def of(cls, clips: Sequence[Features]) -> Moments:
        """Of the rows of all clips (n_k, D); two rows at least."""
        count = sum(map(len, clips))
        mean = np.sum([rows.sum(0, dtype=np.float64) for rows in clips], axis=0) / count
        centred = [(rows - mean) / np.sqrt(count - 1) for rows in clips]
        if count <= len(mean):  # the rows are a root themselves
            return cls(count, mean, np.concatenate(centred))
        values, vectors = np.linalg.eigh(sum((rows.T @ rows for rows in centred), np.zeros((len(mean), len(mean)))))
        return cls(count, mean, np.sqrt(values.clip(min=0))[:, None] * vectors.T)


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    The trace of the root is the sum of the singular values of root1 root2^T: they are real and not negative whatever
    the ranks are, where a matrix root of S1 S2, which is not symmetric, may come out complex or not at all.
    """
    traces = np.square(first.root).sum() + np.square(second.root).sum()
    shared = np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum()
    return float(max(0.0, np.square(first.mean - second.mean).sum() + traces - 2 * shared))


@dataclass(frozen=True)
class EmoFid:
    """The Frechet distance of the generated and the real clips' frames, and what tells how to take it.

    value: of all frames that show a face. real_frames, generated_frames: how many these are; real_clips: of how many.
    dimension: of the features. rank_deficient: whether a set has no more frames than that, so that its covariance is
        not known in all directions.
    halves: the same distance of the clips generated for one half of the real clips and the other half of these; floor:
        of the two halves of the real clips. Both have as many frames, and the same bias; means of SPLITS divisions.
    half_frames: frames of such a half, in the mean.
    """

    value: float
    real_clips: int
    real_frames: int
    generated_frames: int
    dimension: int
    rank_deficient: bool
    halves: float
    floor: float
    half_frames: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def emo_fid(real: Sequence[Features], generated: Sequence[Sequence[Features]], kinds: Sequence[int]) -> EmoFid | None:
    """real: the features (n, D) of each real clip's frames; generated: those of the clips made for each of them.

    kinds: of each real clip; the halves have as many clips of each kind, to within one.
    None for fewer than FEWEST real clips: a half would be one clip.
    """
    if len(real) < FEWEST or any(not clips for clips in generated):
        return None
    made = [np.concatenate(list(clips)) for clips in generated]
    whole = Moments.of(real), Moments.of(made)
    rng = np.random.default_rng(SEED)
    halves, floors, frames = [], [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(real))
        order = order[np.argsort(np.take(kinds, order), kind="stable")]
        sides = order[::2], order[1::2]
        own = [Moments.of([real[row] for row in side]) for side in sides]
        others = [Moments.of([made[row] for row in side]) for side in sides]
        floors.append(frechet_distance(*own))
        halves += [frechet_distance(others[0], own[1]), frechet_distance(others[1], own[0])]
        frames += [moments.count for moments in own]
    dimension = len(whole[0].mean)
    return EmoFid(
        value=frechet_distance(*whole),
        real_clips=len(real),
        real_frames=whole[0].count,
        generated_frames=whole[1].count,
        dimension=dimension,
        rank_deficient=min(moments.count for moments in whole) <= dimension,
        halves=float(np.mean(halves)),
        floor=float(np.mean(floors)),
        half_frames=float(np.mean(frames)),
    )
