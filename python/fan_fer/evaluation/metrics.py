"""Scores of a network over clips, with intervals (docs/evaluation.md says what each means).

A network may have been trained several times, from different seeds. The clips are the same each time, so the unit of
every interval is the clip, or the person where persons are known: how often a clip is recognised is averaged over the
seeds first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binned_statistic, binomtest, bootstrap
from sklearn.metrics import confusion_matrix

RESAMPLES = 2000
BINS = 15  # of the confidence, for the calibration error
_BATCH = 2_000_000  # numbers that the bootstrap holds at a time

Labels = NDArray[np.int64]  # (n,) index of each clip's true class
Floats = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Any]  # numbers of clips (..., n) to values (...)


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """What :func:`score` finds. Shares are of 1."""

    classes: tuple[str, ...]
    clips: int
    accuracy: float  # weighted average recall (WAR)
    accuracy_interval: Interval
    accuracy_of_seeds: tuple[float, ...]
    mean_recall: float  # unweighted average recall (UAR), over the classes that have clips
    mean_recall_interval: Interval | None  # None for a single clip
    recalls: dict[str, float | None]  # None for a class without clips
    confusion: NDArray[np.int64]  # (C, C), rows are the true classes; summed over the seeds
    calibration_error: float  # expected calibration error of the most probable class

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, for JSON."""
        return {
            "clips": self.clips,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "accuracy_of_seeds": list(self.accuracy_of_seeds),
            "mean_recall": self.mean_recall,
            "mean_recall_interval": None if self.mean_recall_interval is None else list(self.mean_recall_interval),
            "recalls": self.recalls,
            "calibration_error": self.calibration_error,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True)
class Answered:
    """How often the most probable class is right where its probability is not below ``abstain``."""

    abstain: float
    clips: int
    answered: int
    accuracy: float | None  # of these; None where there are none
    accuracy_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Difference:
    """How much better one network is than another on the same clips; shares of 1."""

    accuracy: float
    accuracy_interval: Interval | None
    mean_recall: float
    mean_recall_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def score(
    classes: Sequence[str], labels: Labels, probabilities: Floats, subjects: Sequence[str] | None = None
) -> Scores:
    """Scores of the probabilities (S, n, C) that networks of S seeds give n clips with true classes ``labels`` (n,).

    subjects: who is seen in each clip; of two persons or more the intervals are bootstrapped over the persons.
    Raises ValueError without a clip, where the shapes do not fit each other, and for probabilities that are not finite.
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels, np.int64)
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels: got shape {labels.shape}; wanted (n,), at least one")
    if probabilities.ndim != 3 or probabilities.shape[1:] != (len(labels), len(classes)):
        wanted = f"(seeds, {len(labels)}, {len(classes)})"
        raise ValueError(f"probabilities: got shape {probabilities.shape}; wanted {wanted}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: got NaN or infinite values; finite ones are wanted")
    predicted = probabilities.argmax(-1)
    right = predicted == labels
    rate = right.mean(0)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for one in predicted:
        confusion += confusion_matrix(labels, one, labels=range(len(classes)))
    members = confusion.sum(1)
    return Scores(
        classes=tuple(classes),
        clips=len(labels),
        accuracy=float(rate.mean()),
        accuracy_interval=_interval(np.zeros_like(labels), rate, subjects)
        or wilson_interval(float(rate.sum()), len(labels)),
        accuracy_of_seeds=tuple(right.mean(1).tolist()),
        mean_recall=float(_mean_recall(labels, rate)(np.arange(len(labels)))),
        mean_recall_interval=_interval(labels, rate, subjects)
        or bootstrap_interval(_mean_recall(labels, rate), len(labels)),
        recalls={name: float(confusion[k, k] / members[k]) if members[k] else None for k, name in enumerate(classes)},
        confusion=confusion,
        calibration_error=float(np.mean([calibration_error(labels, one) for one in probabilities])),
    )


def score_answered(labels: Labels, probabilities: Floats, abstain: float) -> Answered:
    """Of clips of true classes ``labels`` (n,) those whose probabilities (n, C) have one of ``abstain`` or more."""
    sure = probabilities.max(-1) >= abstain
    count = int(sure.sum())
    if not count:
        return Answered(abstain, len(labels), 0, None, None)
    right = int((probabilities.argmax(-1) == labels)[sure].sum())
    return Answered(abstain, len(labels), count, right / count, wilson_interval(right, count))


def difference(labels: Labels, first: Floats, second: Floats, subjects: Sequence[str] | None = None) -> Difference:
    """What ``first`` scores above ``second``: probabilities (S, n, C) of the same n clips, from any number of seeds.

    The intervals are paired: each resample takes the same clips, or persons, for both.
    """
    labels = np.asarray(labels, np.int64)
    gain = (first.argmax(-1) == labels).mean(0) - (second.argmax(-1) == labels).mean(0)
    everything = np.arange(len(labels))
    # Both scores are sums over the clips with the same divisors, so that the difference is the score of the gain.
    mean_recall = _mean_recall(labels, gain)
    return Difference(
        accuracy=float(gain.mean()),
        accuracy_interval=_interval(np.zeros_like(labels), gain, subjects)
        or bootstrap_interval(lambda clips: gain[clips].mean(-1), len(labels)),
        mean_recall=float(mean_recall(everything)),
        mean_recall_interval=_interval(labels, gain, subjects) or bootstrap_interval(mean_recall, len(labels)),
    )


def wilson_interval(right: float, clips: int) -> Interval:
    """Wilson's interval of the share ``right`` / ``clips``.

    A mean over seeds need not be whole: the interval then reaches from that of the next lower count to that of the next
    higher one.
    """
    right = round(right, 6)  # sums of thirds are not exact
    low, high = (
        binomtest(count, clips).proportion_ci(0.95, method="wilson") for count in (math.floor(right), math.ceil(right))
    )
    return Interval(float(low.low), float(high.high))


def bootstrap_interval(statistic: Statistic, clips: int) -> Interval | None:
    """Percentile bootstrap over the clips, the same resamples every time; None for a single clip."""
    if clips < 2:
        return None
    found = bootstrap(
        (np.arange(clips),),
        lambda numbers, axis: statistic(np.moveaxis(numbers, axis, -1)),
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // clips),
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def subject_interval(labels: Labels, value: Floats, subjects: Sequence[str]) -> Interval | None:
    """Percentile bootstrap, over the persons, of the mean over the classes of the mean of ``value`` (n,) in a class.

    A resample takes all clips of a person, as often as it draws the person. None for a single one.
    """
    people, owner = np.unique(subjects, return_inverse=True)
    if len(people) < 2:
        return None
    classes, column = np.unique(labels, return_inverse=True)
    sums, counts = np.zeros((2, len(people), len(classes)))
    np.add.at(sums, (owner, column), value)
    np.add.at(counts, (owner, column), 1)
    drawn = np.random.default_rng(0).multinomial(len(people), np.full(len(people), 1 / len(people)), RESAMPLES)
    total, members = drawn @ sums, drawn @ counts
    means = (total / np.maximum(members, 1)).sum(1) / (members > 0).sum(1)
    return Interval(*(float(end) for end in np.quantile(means, (0.025, 0.975))))


def _interval(labels: Labels, value: Floats, subjects: Sequence[str] | None) -> Interval | None:
    return None if subjects is None else subject_interval(labels, value, subjects)


def calibration_error(labels: Labels, probabilities: Floats) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, averaged over the clips of 15 bins."""
    confidence = probabilities.max(-1)
    excess = (probabilities.argmax(-1) == labels) - confidence
    sums = binned_statistic(confidence, excess, "sum", BINS, (0, 1)).statistic
    return float(np.abs(sums).sum() / len(labels))


def _mean_recall(labels: Labels, value: Floats) -> Statistic:
    """The mean over the classes of the mean of ``value`` over a class's clips: of 1 for right, 0 for wrong, the UAR."""
    classes = np.unique(labels)

    def statistic(clips: NDArray[np.int64]) -> Any:
        drawn, values = labels[clips], value[clips]
        total, present = np.zeros(clips.shape[:-1]), np.zeros(clips.shape[:-1])
        for k in classes:
            member = drawn == k
            count = member.sum(-1)
            total += (values * member).sum(-1) / np.maximum(count, 1)
            present += count > 0
        return total / present

    return statistic
