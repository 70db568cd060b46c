"""Two prepared sets as one: all of the first is trained on, all of the second is tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from fan_fer.base.errors import DataError
from fan_fer.base.files import real_path
from fan_fer.datasets.prepared import Clip, PreparedSet


@dataclass(frozen=True)
class CrossSet(PreparedSet):
    """A set with the splits "train" and "test", whose clips are named "train/NAME" and "test/NAME".

    folder: that of the set that is tested on.
    layout: that of the set that is trained on.
    parts: the set that is trained on, and the one that is tested on.
    """

    parts: tuple[PreparedSet, PreparedSet]

    @property
    def shared_people(self) -> int:
        """0 where the names of persons need not mean the same in both sets."""
        return super().shared_people if _of_one(*self.parts) else 0

    def crop_path(self, clip: Clip, number: int) -> Path:
        split, _, name = clip.name.partition("/")
        return self.parts[split == "test"].crop_path(replace(clip, name=name), number)


def cross_sets(train: PreparedSet, test: PreparedSet) -> CrossSet:
    """Raises DataError where the two are one or share clips, or have other classes or another kind of crops."""
    if real_path(train.folder) == real_path(test.folder):
        raise DataError(f"{train.folder}: is named twice; two sets are wanted, one to train on and another to test on")
    if train.classes != test.classes:
        raise DataError(
            f"{train.folder} has the classes {', '.join(train.classes)}, {test.folder} has {', '.join(test.classes)}; "
            "fan-fer prepare --classes gives both the same"
        )
    if (train.size, train.template) != (test.size, test.template):
        raise DataError(
            f"{train.folder} has faces of {train.size} pixels, {test.folder} of {test.size}, or in another place; "
            "prepare both alike"
        )
    shared = _shared_clips(train, test)
    if shared:
        raise DataError(
            f"{test.folder}: {len(shared)} of its clips are in {train.folder} too, such as {shared[0]}; "
            "sets that share no clip are wanted"
        )
    clips = [
        replace(clip, name=f"{split}/{clip.name}", split=split, fold=None)
        for split, part in (("train", train), ("test", test))
        for clip in part.clips
    ]
    return CrossSet(
        folder=test.folder,
        layout=train.layout,
        classes=test.classes,
        size=test.size,
        template=test.template,
        detector=test.detector,
        folds=None,
        clips=tuple(clips),
        key=hashlib.sha256(f"{train.key}{test.key}".encode()).hexdigest(),
        parts=(train, test),
    )


def _of_one(train: PreparedSet, test: PreparedSet) -> bool:
    """Whether both are parts of one published set, so that a name means the same in both."""
    return train.layout == test.layout and train.layout not in ("folders", "csv")


def _shared_clips(train: PreparedSet, test: PreparedSet) -> list[str]:
    """Clips of one name that are of one published set, or whose first faces are the same."""
    known = {clip.name: clip for clip in train.clips}
    both = [(known[clip.name], clip) for clip in test.clips if clip.name in known]
    return [
        second.name for first, second in both if _of_one(train, test) or _first(train, first) == _first(test, second)
    ]


def _first(prepared: PreparedSet, clip: Clip) -> bytes:
    return prepared.crops(clip, clip.numbers[:1]).tobytes()
