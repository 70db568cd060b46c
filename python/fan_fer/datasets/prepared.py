"""A prepared set: labelled clips as aligned face crops, and how they are divided for training and testing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fan_fer.base.errors import DataError
from fan_fer.base.files import file_name, is_file, read_file
from fan_fer.base.names import person_key
from fan_fer.base.opencv import cv2
from fan_fer.datasets.files import (
    CLIP_COLUMNS,
    CLIPS_FILE,
    CROPS_FOLDER,
    FACE_COLUMNS,
    FRAME_COLUMNS,
    FRAMES_FILE,
    OK,
    SETTINGS_FILE,
    read_rows,
    read_settings,
)

_NOT_FINITE = frozenset(("nan", "NaN", "inf", "Inf", "-inf", "-Inf"))


@dataclass(frozen=True)
class Clip:
    """A labelled clip with at least one face.

    name: unique in its set, such as "S005/001"; also its folder below crops/.
    label: one of the set's classes.
    split: "train", "val" or "test", None where the set has no splits.
    subject: who is seen, None where the set does not say.
    fold: the fold that tests on this clip, from 1; None without folds.
    numbers: frames that have a crop, numbered from 0 in the source, ascending, at least one.
    """

    name: str
    label: str
    split: str | None
    subject: str | None
    fold: int | None
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Partition:
    """Which clips to train on and which to test on, as indices into ``PreparedSet.clips``; both hold at least one."""

    name: str  # "fold-3", "val" or "test"
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class PreparedSet:
    """What ``fan-fer prepare`` wrote, see docs/datasets.md.

    classes: in the order that networks use.
    size: side of the crops in pixels.
    template: (5, 2), where the landmarks lie in a crop, as fractions of it.
    folds: how many, None without.
    clips: those with a label and at least one face, in the order of clips.csv.
    key: sha256 over the files that describe the set: equal for equal sets, wherever they lie.
    """

    folder: Path
    layout: str
    classes: tuple[str, ...]
    size: int
    template: tuple[tuple[float, float], ...]
    detector: str
    folds: int | None
    clips: tuple[Clip, ...]
    key: str

    def crop_path(self, clip: Clip, number: int) -> Path:
        """The PNG with the face of frame ``number``."""
        return crop_file(self.folder / CROPS_FOLDER / clip.name, number)

    def crops(self, clip: Clip, numbers: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Aligned faces, RGB (n, size, size, 3), of the frames ``numbers``, or of all that have one.

        Raises ValueError for a frame without a crop, DataError for a file that is missing or damaged.
        """
        numbers = clip.numbers if numbers is None else numbers
        crops = np.empty((len(numbers), self.size, self.size, 3), np.uint8)
        for row, number in enumerate(numbers):
            if number not in clip.numbers:
                raise ValueError(f"numbers: frame {number} of {clip.name} has no crop")
            crops[row] = self._read(self.crop_path(clip, number))
        return crops

    def partitions(self) -> list[Partition]:
        """Every fold if the set has folds, else the one that trains on split "train" and tests on "val", or on "test".

        Raises DataError where there is neither, or where one would have nothing to train on or to test on.
        """
        if self.folds is not None:
            return [self.fold(number) for number in range(1, self.folds + 1)]
        found = sorted({clip.split for clip in self.clips if clip.split is not None})
        tested = "val" if "val" in found else "test"
        if not {"train", tested} <= set(found):
            what = f"only the split{'s' if len(found) > 1 else ''} {', '.join(found)}" if found else "no splits"
            raise DataError(
                f"{self.folder}: has no folds and {what} (of clips with a face); train and val (or test) are wanted, "
                "or folds: fan-fer prepare --folds N makes them of persons, and a CSV may have the column fold"
            )
        train, test = (
            tuple(index for index, clip in enumerate(self.clips) if clip.split == split) for split in ("train", tested)
        )
        return [Partition(tested, train, test)]

    @property
    def shared_people(self) -> int:
        """How many persons are both trained on and tested on in some partition."""
        shared: set[str] = set()
        for partition in self.partitions():
            train, test = (
                {person_key(subject) for index in part if (subject := self.clips[index].subject) is not None}
                for part in (partition.train, partition.test)
            )
            shared |= train & test
        return len(shared)

    def fold(self, number: int) -> Partition:
        """Fold ``number``, from 1: it tests on the clips that clips.csv assigns to it and trains on the others.

        Raises DataError where there is no such fold, or it would have nothing to train on or to test on.
        """
        if self.folds is None:
            raise DataError(f"{self.folder}: has no folds; prepare it with --folds, or use its splits")
        if not 1 <= number <= self.folds:
            raise DataError(f"{self.folder}: has no fold {number}; its folds are 1 to {self.folds}")
        test = tuple(index for index, clip in enumerate(self.clips) if clip.fold == number)
        train = tuple(index for index, clip in enumerate(self.clips) if clip.fold != number)
        for role, members in (("test on", test), ("train on", train)):
            if not members:
                raise DataError(
                    f"{self.folder}: fold {number} of {self.folds} has no clip to {role}; prepare with fewer folds"
                )
        return Partition(f"fold-{number}", train, test)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        if not is_file(path):
            raise DataError(f"{path}: is missing; the prepared set is damaged: prepare it again")
        try:
            content = np.frombuffer(read_file(path), np.uint8)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
        if image is None or image.shape != (self.size, self.size, 3):
            raise DataError(f"{path}: is no picture of {self.size} x {self.size} pixels; the prepared set is damaged")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def open_prepared(folder: str | os.PathLike[str]) -> PreparedSet:
    """The set that ``fan-fer prepare`` wrote into ``folder``.

    Raises DataError for a folder that is no prepared set, one that is not finished, and one that lacks files.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    if not settings.complete:
        raise DataError(f"{folder}: is not finished; give the same fan-fer prepare again, it goes on where it was")
    numbers: dict[str, list[int]] = {}
    clips: list[Clip] = []
    try:
        for row in read_rows(folder / FRAMES_FILE, FRAME_COLUMNS):
            if row["status"] == OK:
                numbers.setdefault(row["clip"], []).append(int(row["frame"]))
                _check_numbers(row)
        for row in read_rows(folder / CLIPS_FILE, CLIP_COLUMNS):
            if row["status"] == OK:
                clips.append(_clip(row, numbers.get(row["clip"], []), settings.classes))
    except ValueError as error:
        raise DataError(f"{folder}: the prepared set is damaged ({error})") from None
    _check_crops(folder, clips)
    digest = hashlib.sha256()
    for name in (SETTINGS_FILE, CLIPS_FILE, FRAMES_FILE):
        digest.update(read_file(folder / name))
    return PreparedSet(
        folder=folder,
        layout=settings.layout,
        classes=settings.classes,
        size=settings.size,
        template=settings.template,
        detector=settings.detector,
        folds=settings.folds,
        clips=tuple(clips),
        key=digest.hexdigest(),
    )


def crop_file(folder: Path, number: int) -> Path:
    """Where a clip's folder holds the crop of frame ``number``."""
    return folder / f"{number:06d}.png"


def _clip(row: dict[str, str], numbers: list[int], classes: tuple[str, ...]) -> Clip:
    """Raises ValueError where the row contradicts the other files."""
    if row["label"] not in classes:
        raise ValueError(f"{CLIPS_FILE}: {row['clip']}: label {row['label']!r} is not one of {', '.join(classes)}")
    if not numbers or len(numbers) != int(row["faces"]) or numbers != sorted(set(numbers)):
        raise ValueError(f"{row['clip']}: {CLIPS_FILE} and {FRAMES_FILE} do not agree on its faces")
    return Clip(
        name=file_name(row["clip"]),
        label=row["label"],
        split=row["split"] or None,
        subject=row["subject"] or None,
        fold=int(row["fold"]) if row["fold"] else None,
        numbers=tuple(numbers),
    )


def _check_numbers(row: dict[str, str]) -> None:
    """Raises ValueError where a row of frames.csv holds a number that is not finite, as Python or pandas writes it."""
    if not _NOT_FINITE.isdisjoint([row["time"], *list(row.values())[-len(FACE_COLUMNS) :]]):
        raise ValueError(f"{FRAMES_FILE}: {row['clip']}: frame {row['frame']} has a number that is not finite")


def _check_crops(folder: Path, clips: list[Clip]) -> None:
    """Looks into every clip's folder once: a stat of every crop would take far longer on a network drive."""
    for clip in clips:
        crops = folder / CROPS_FOLDER / clip.name
        try:
            present = set(os.listdir(crops))  # noqa: PTH208, names alone are wanted
        except (FileNotFoundError, NotADirectoryError):
            present = set()
        except OSError as error:
            raise DataError(f"{crops}: cannot be looked into ({error.strerror})") from None
        for number in clip.numbers:
            if crop_file(crops, number).name not in present:
                raise DataError(
                    f"{crop_file(crops, number)}: is missing; the prepared set is damaged: prepare it again"
                )


def find_partition(prepared: PreparedSet, name: str) -> Partition:
    """Raises DataError that names the partitions there are."""
    key = person_key(name)
    fold = re.fullmatch("fold-([0-9]{1,9})", key)
    if prepared.folds is not None and fold is not None:
        return prepared.fold(int(fold[1]))
    partitions = prepared.partitions()
    for partition in partitions:
        if person_key(partition.name) == key:
            return partition
    names = ", ".join(partition.name for partition in partitions)
    raise DataError(f"{prepared.folder}: has no partition {name!r}; it has {names}")
