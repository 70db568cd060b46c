"""Scores and their intervals, against numbers worked out by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from fan_fer.evaluation.metrics import (
    bootstrap_interval,
    calibration_error,
    difference,
    score,
    score_answered,
    wilson_interval,
)

CLASSES = ("a", "b", "c")


def sure(*predicted: int, classes: int = 3) -> np.ndarray:
    """Probabilities (n, C) that are 1 for these classes."""
    return np.eye(classes)[list(predicted)]


def random_case(clips: int, seeds: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(clips)
    return rng.integers(0, 3, clips), rng.dirichlet(np.ones(3), (seeds, clips))


def test_scores_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    scores = score(CLASSES, labels, sure(0, 0, 0, 1, 1, 2)[None])
    assert scores.clips == 6
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.recalls == {"a": 0.75, "b": 0.5, "c": None}
    assert scores.mean_recall == pytest.approx((0.75 + 0.5) / 2)  # class c has no clip
    assert scores.confusion.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert scores.calibration_error == pytest.approx(2 / 6)  # certain of all six, right in four


def test_answered_are_those_that_are_sure_enough() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    labels = np.array([0, 1, 1, 0])
    for abstain, answered, accuracy in ((0.0, 4, 0.75), (0.5, 3, 2 / 3), (0.8, 2, 0.5), (0.81, 1, 1.0)):
        found = score_answered(labels, probabilities, abstain)
        assert (found.clips, found.answered) == (4, answered)
        assert found.accuracy == pytest.approx(accuracy)
        assert found.accuracy_interval == wilson_interval(accuracy * answered, answered)
    assert score_answered(labels, probabilities, 0.95).to_dict() == {
        "abstain": 0.95, "clips": 4, "answered": 0, "accuracy": None, "accuracy_interval": None,
    }  # fmt: skip


def test_scores_are_those_of_scikit_learn() -> None:
    labels, probabilities = random_case(97)
    predicted = probabilities[0].argmax(-1)
    scores = score(CLASSES, labels, probabilities)
    assert scores.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert scores.mean_recall == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert list(scores.recalls.values()) == pytest.approx(recall_score(labels, predicted, average=None).tolist())
    assert scores.confusion.tolist() == confusion_matrix(labels, predicted).tolist()


def test_intervals_over_persons() -> None:
    """All clips of a person right or all wrong: ten clips of each say no more than one."""
    labels, predicted = np.array([0, 1, 0, 1]), sure(0, 1, 1, 0)
    people = ["p1", "p1", "p2", "p2"]
    once = score(CLASSES, labels, predicted[None], people)
    tenfold = score(CLASSES, np.tile(labels, 10), np.tile(predicted, (10, 1))[None], people * 10)
    assert once.accuracy == tenfold.accuracy == 0.5
    assert once.accuracy_interval == tenfold.accuracy_interval == (0, 1)
    assert once.mean_recall_interval == tenfold.mean_recall_interval == (0, 1)
    assert (
        tenfold.accuracy_interval
        != score(CLASSES, np.tile(labels, 10), np.tile(predicted, (10, 1))[None]).accuracy_interval
    )


def test_intervals_over_persons_of_one_clip_are_those_over_clips() -> None:
    labels, probabilities = random_case(300)
    clips = score(CLASSES, labels, probabilities)
    people = score(CLASSES, labels, probabilities, [str(number) for number in range(300)])
    assert people.mean_recall_interval == pytest.approx(clips.mean_recall_interval, abs=0.006)
    assert people.accuracy_interval == pytest.approx(clips.accuracy_interval, abs=0.008)
    gain, same = (
        difference(labels, probabilities, random_case(300, 2)[1], who) for who in (None, [str(n) for n in range(300)])
    )
    assert same.accuracy_interval == pytest.approx(gain.accuracy_interval, abs=0.01)
    assert same.mean_recall_interval == pytest.approx(gain.mean_recall_interval, abs=0.01)


def test_a_class_that_few_persons_show_is_averaged_over_where_it_is_drawn() -> None:
    labels = np.array([0, 0, 1])
    scores = score(CLASSES, labels, sure(0, 0, 0)[None], ["p1", "p2", "p2"])
    assert scores.mean_recall == 0.5
    assert scores.mean_recall_interval == (0.5, 1)  # p1 alone is drawn in a quarter of the resamples


def test_a_single_person_has_the_intervals_of_the_clips() -> None:
    labels, probabilities = random_case(20)
    assert (
        score(CLASSES, labels, probabilities, ["p1"] * 20).to_dict() == score(CLASSES, labels, probabilities).to_dict()
    )


def test_several_seeds_are_averaged_clip_by_clip() -> None:
    labels = np.array([0, 1, 2, 0])
    both = score(CLASSES, labels, np.stack([sure(0, 1, 2, 1), sure(0, 0, 2, 1)]))
    assert both.accuracy == pytest.approx((0.75 + 0.5) / 2)
    assert both.accuracy_of_seeds == (0.75, 0.5)
    assert both.mean_recall == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert both.confusion.tolist() == [[2, 2, 0], [1, 1, 0], [0, 0, 2]]
    # 2.5 of 4 on average: from the lower end for 2 to the upper end for 3.
    assert both.accuracy_interval == (wilson_interval(2, 4).low, wilson_interval(3, 4).high)


def test_a_run_that_is_only_repeated_does_not_narrow_the_intervals() -> None:
    labels, once = random_case(60)
    one, three = score(CLASSES, labels, once), score(CLASSES, labels, np.repeat(once, 3, axis=0))
    assert three.accuracy_interval == one.accuracy_interval
    assert three.mean_recall_interval == pytest.approx(one.mean_recall_interval)
    assert three.calibration_error == pytest.approx(one.calibration_error)


@pytest.mark.parametrize(("right", "clips"), [(0, 5), (8, 10), (326, 327), (12, 12)])
def test_wilson_interval_is_the_formula(right: int, clips: int) -> None:
    z, p = 1.959963984540054, right / clips
    middle = (p + z * z / (2 * clips)) / (1 + z * z / clips)
    half = z / (1 + z * z / clips) * math.sqrt(p * (1 - p) / clips + z * z / (4 * clips * clips))
    assert wilson_interval(right, clips) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)


def test_wilson_interval_of_thirds_that_add_up() -> None:
    rates = np.array([2, 1, 3, 3]) / 3  # 3 of 4, but for rounding
    assert wilson_interval(float(rates.sum()), 4) == wilson_interval(3, 4)


def test_bootstrap_interval_of_a_mean_is_the_normal_one_for_many_clips() -> None:
    values = np.random.default_rng(0).random(2000)
    low, high = bootstrap_interval(lambda clips: values[clips].mean(-1), len(values))
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)
    assert bootstrap_interval(lambda clips: values[clips].mean(-1), len(values)) == (low, high)  # same resamples


def test_mean_recall_interval_survives_a_class_that_resamples_miss() -> None:
    scores = score(CLASSES, np.array([0] * 20 + [1]), sure(*[0] * 15 + [1] * 6)[None])
    low, high = scores.mean_recall_interval
    assert 0.5 < low < scores.mean_recall < high <= 1


def test_one_clip_has_no_bootstrap_interval() -> None:
    scores = score(CLASSES, np.array([2]), sure(2)[None])
    assert scores.accuracy == scores.mean_recall == 1
    assert scores.mean_recall_interval is None
    assert scores.accuracy_interval.low == pytest.approx(0.2065, abs=1e-4)
    assert scores.to_dict()["mean_recall_interval"] is None


def test_difference_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    first, second = sure(0, 0, 1, 1)[None], np.stack([sure(0, 1, 1, 0), sure(0, 0, 1, 0)])
    gain = difference(labels, first, second)
    assert gain.accuracy == pytest.approx(3 / 4 - (1 / 4 + 2 / 4) / 2)
    assert gain.mean_recall == pytest.approx((2 / 3 + 1) / 2 - (1.5 / 3) / 2)
    assert gain.accuracy_interval.low >= 0  # it is nowhere worse


def test_paired_interval_knows_that_the_clips_are_the_same() -> None:
    labels, probabilities = random_case(300)
    better = probabilities.copy()
    better[0, :10] = np.eye(3)[labels[:10]]  # right in ten clips more, or as many
    alone = score(CLASSES, labels, probabilities).accuracy_interval
    paired = difference(labels, better, probabilities).accuracy_interval
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    same = difference(labels, probabilities, probabilities)
    assert (same.accuracy, same.accuracy_interval, same.mean_recall_interval) == (0, (0, 0), (0, 0))


def test_calibration_error_worked_out_by_hand() -> None:
    # Two clips at 60 %, one right: 10 points too sure. Two at 90 %, both right: 10 points too unsure.
    probabilities = np.array([[0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.1, 0.9]])
    assert calibration_error(np.array([0, 0, 0, 1]), probabilities) == pytest.approx(0.1)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels: got shape \(0,\)"):
        score(CLASSES, np.zeros(0, int), np.zeros((1, 0, 3)))
    with pytest.raises(ValueError, match=r"probabilities: got shape \(2, 3\); wanted \(seeds, 2, 3\)"):
        score(CLASSES, np.zeros(2, int), np.zeros((2, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_never_scored(value: float) -> None:
    probabilities = sure(0, 1)[None]
    probabilities[0, 1, 2] = value
    with pytest.raises(ValueError, match=r"^probabilities: got NaN or infinite values; finite ones are wanted$"):
        score("abc", np.array([0, 1]), probabilities)
