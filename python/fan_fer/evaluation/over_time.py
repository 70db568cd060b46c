"""How far two clips are apart over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fan_fer.attention.scoring import Floats
from fan_fer.evaluation.readings import Reading


@dataclass(frozen=True)
class Apart:
    """Two clips beside each other from the first frame of each, at equal steps, as long as both last.

    step: seconds between two points, the longer of the two clips' frame durations. points: how many there are.
    compared: at how many of them both clips show a face; without_real, without_generated: at how many one does not.
    duration, generated_duration: seconds of each clip.
    features: cosine distance of the two frames' features, 0 to 2, the mean over the points compared.
    probabilities: total variation of the two frames' probabilities, 0 to 1: what share of them is elsewhere; likewise.
    farthest: seconds from the start at which the probabilities are farthest apart.
    These three are None where no point can be compared.
    """

    step: float
    points: int
    compared: int
    without_real: int
    without_generated: int
    duration: float
    generated_duration: float
    features: float | None
    probabilities: float | None
    farthest: float | None


def apart(real: Reading, generated: Reading) -> Apart:
    """The clips' distances. At each point the nearest frame of each clip counts; no frame is made up between two."""
    times = [clip.times - clip.times[0] for clip in (real, generated)]
    steps = [float(np.median(np.diff(own))) for own in times if len(own) > 1]
    step = max(steps, default=0.0)
    last = min(float(own[-1]) for own in times)
    points = step * np.arange(int(last / step + 1e-6) + 1 if step > 0 else 1)
    rows = [_nearest(own, points) for own in times]
    seen = [clip.has_face[row] for clip, row in zip((real, generated), rows, strict=True)]
    both = seen[0] & seen[1]
    first, second = rows[0][both], rows[1][both]
    features = _cosine(real.features[first], generated.features[second])
    probabilities = np.abs(real.own[first] - generated.own[second]).sum(1) / 2
    return Apart(
        step=step,
        points=len(points),
        compared=int(both.sum()),
        without_real=int((~seen[0]).sum()),
        without_generated=int((~seen[1]).sum()),
        duration=_duration(times[0]),
        generated_duration=_duration(times[1]),
        features=float(features.mean()) if both.any() else None,
        probabilities=float(probabilities.mean()) if both.any() else None,
        farthest=float(points[both][probabilities.argmax()]) if both.any() else None,
    )


def _duration(times: Floats) -> float:
    """To the end of the last frame."""
    return float(times[-1] + np.median(np.diff(times))) if len(times) > 1 else 0.0


def _nearest(times: NDArray[Any], points: NDArray[Any]) -> NDArray[np.int64]:
    """The row of ``times`` next to each point; of two as near the earlier."""
    after = np.searchsorted(times, points).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    return np.where(points - times[before] <= times[after] - points, before, after)


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
    """Half the squared distance of the unit vectors, which is 0 for the same ones whatever their rounding."""
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (first, second)]
    return np.asarray(np.square(units[0].astype(np.float64) - units[1]).sum(1) / 2)
