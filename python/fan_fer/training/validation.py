"""The clips on which a run chooses its epoch: a part of those that it may train on, of other persons than the rest."""

from __future__ import annotations

from collections.abc import Sequence

from fan_fer.base.errors import TrainingError
from fan_fer.base.names import person_key
from fan_fer.datasets.listing import natural
from fan_fer.datasets.prepared import PreparedSet

PART = 5  # one person in so many


def cut_validation(prepared: PreparedSet, train: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Clips to train on and clips to choose the epoch on: every fifth person's, in ascending order of persons.

    Every fifth clip where one of them tells no person. Raises TrainingError where nothing is left for one of the two.
    """
    subjects = [prepared.clips[index].subject for index in train]
    keys = [person_key(subject) for subject in subjects if subject is not None]
    if len(keys) == len(train):
        held = set(sorted(set(keys), key=natural)[PART // 2 :: PART])
        chosen = [index for index, key in zip(train, keys, strict=True) if key in held]
    else:
        chosen = list(train[PART // 2 :: PART])
    rest = tuple(sorted(set(train) - set(chosen)))
    if not chosen or not rest:
        raise TrainingError(
            f"{prepared.folder}: too few persons or clips to train on and to choose the epoch on ({len(train)} clips); "
            "--no-validation trains on all of them"
        )
    return rest, tuple(chosen)
