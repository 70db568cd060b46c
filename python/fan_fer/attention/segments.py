"""Where the reading of a clip changes: change points of the frames' own probabilities, and what each part shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.scoring import ClipScores, PackedFeatures, score_clips

SHORTEST = 1.0  # seconds of a segment
PENALTY = 0.75  # seconds that a wholly different reading lasts before it pays for its borders (docs/prediction.md)
LONGEST = 300.0  # seconds of a part, before neighbours that say the same are joined: a film takes time, not its square
PARTS = 8  # of the shortest segment: how finely borders are sought before each is put to its row

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SegmentScores:
    """Rows ``first`` up to ``end`` of a clip's frames, and what the network says of them alone."""

    first: int
    end: int
    scores: ClipScores


def score_segments(
    network: FrameAttentionNetwork,
    features: Tensor,
    whole: ClipScores,
    rate: float,
    shortest: float = SHORTEST,
    penalty: float = PENALTY,
) -> list[SegmentScores]:
    """The parts of a clip with a reading of their own, in order; one where the reading does not change.

    features: (n, D) of the clip's frames that show the face, ``rate`` a second. whole: what the network says of them.
    shortest: seconds that a segment has at least. penalty: seconds, of each segment. Neighbours of which the network
    says the same are one segment, and all are where it overflows.
    """
    least = max(1, math.ceil(shortest * rate - 1e-9))
    borders = change_points(whole.own, least, penalty * rate, math.ceil(LONGEST * rate))
    while len(borders) > 2:
        packed = PackedFeatures(features, torch.tensor(borders, device="cpu"))
        scores = score_clips(network, packed, range(len(packed)))
        if not all(part.is_finite for part in scores):
            break
        told = [int(part.probabilities.argmax()) for part in scores]
        kept = [at for at, before, after in zip(borders[1:], told, told[1:], strict=False) if before != after]
        if len(kept) == len(borders) - 2:
            return [SegmentScores(*part) for part in zip(borders, borders[1:], scores, strict=False)]
        borders = [0, *kept, len(features)]
    return [SegmentScores(0, len(features), whole)]


def change_points(values: Floats, shortest: int, penalty: float, longest: int) -> list[int]:
    """Where the mean of ``values`` (n, C) changes: 0, the first row of every further part, and n.

    Parts have ``shortest`` rows or more, and about ``longest`` at most, twice as many or more. Theirs is the least sum
    of squared distances of the rows from the mean of their part plus ``penalty`` for each part: optimal partitioning
    with PELT's pruning (Killick, Fearnhead and Eckley, 2012), first over groups of rows, then each border by itself to
    the row.
    """
    count, step = len(values), max(1, shortest // PARTS)
    if count < 2 * shortest:
        return [0, count]
    rows = np.append(np.arange(0, count, step), count)
    total = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
    found = _partition(total[rows], rows, shortest, penalty, max(longest, 2 * shortest))
    for place in range(1, len(found) - 1):
        before, at, after = found[place - 1 : place + 2]
        near = np.arange(max(at - step + 1, before + shortest), min(at + step, after - shortest + 1))
        ends = ((total[border], border) for border in (before, after))
        explained = sum(_explained(total[near], near, *end) for end in ends)
        found[place] = int(near[np.argmax(explained)])
    return found


def _explained(totals: Floats, rows: NDArray[np.int64], total: Floats, row: int) -> Floats:
    """What the mean of the values between each of ``rows`` and ``row`` takes off their sum of squares.

    totals (k, C), total (C,): the sums of all values before each row, and before the one.
    """
    squares: Floats = (totals * totals).sum(-1) + total @ total - 2 * (totals @ total)
    return squares / np.abs(row - rows)


def _partition(total: Floats, rows: NDArray[np.int64], shortest: int, penalty: float, longest: int) -> list[int]:
    """The borders of the best parts that begin and end at ``rows`` (m,). total: (m, C), the sums before each."""
    best = np.full(len(rows), -np.inf)  # that parts up to there take off the sum of squares, less their penalties
    best[0] = 0.0
    before = np.zeros(len(rows), np.int64)
    useful = np.full(len(rows), rows[-1] + 1)  # as a start of parts that end before there
    starts = np.zeros(0, np.int64)
    joined = 0
    for end in range(int(np.searchsorted(rows, shortest)), len(rows)):
        joining = int(np.searchsorted(rows, rows[end] - shortest, "right"))
        starts = np.concatenate([starts[useful[starts] > rows[end]], np.arange(joined, joining)])
        starts, joined = starts[rows[starts] >= rows[end] - longest], joining
        value = best[starts] + _explained(total[starts], rows[starts], total[end], rows[end])
        chosen = int(value.argmax())
        best[end], before[end] = value[chosen] - penalty, starts[chosen]
        late = starts[value <= best[end]]
        useful[late] = np.minimum(useful[late], rows[end] + shortest)
    borders = [len(rows) - 1]
    while borders[0]:
        borders.insert(0, int(before[borders[0]]))
    return [int(rows[at]) for at in borders]
