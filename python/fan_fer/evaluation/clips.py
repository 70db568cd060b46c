"""The clips that a network is evaluated on: videos of a CSV file, or clips of a prepared set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fan_fer.attention.scoring import NOT_FINITE, ClipScores, Floats, score_clips
from fan_fer.base.csv_files import read_table
from fan_fer.base.errors import DataError, FanFerError, fault_line
from fan_fer.base.files import file_name
from fan_fer.base.names import Spellings, name_key, person_key
from fan_fer.base.workers import TIME_LIMIT, Lost, Report, run_tasks
from fan_fer.datasets.features import prepared_features
from fan_fer.datasets.files import CLIP_COLUMNS, CLIPS_FILE, OK, read_rows
from fan_fer.datasets.layouts import split_key
from fan_fer.datasets.prepared import PreparedSet, find_partition
from fan_fer.evaluation.labels import LabelMap, match_labels
from fan_fer.recognizer import Recognizer

INTERRUPTED = "not done: interrupted"


@dataclass(frozen=True)
class EvaluatedClip:
    """A clip, what is known of it, and what the network says.

    name: the path of the video, or the clip's name in its set.
    about: the columns of the CSV file or of the set's list of clips.
    label: as the data has it, empty where there is none.
    truth: index of the true class; None without a label, and where the label map leaves the label out.
    error: why there is no prediction; empty where there is one.
    scores: what the network says of the n frames with a face; of a list of many videos, of the clip alone.
    numbers: (n,), the numbers of these frames.
    """

    name: str
    about: Mapping[str, str]
    label: str
    truth: int | None = None
    error: str = ""
    frames: int | None = None  # how many were decoded, where that is known
    scores: ClipScores | None = None
    numbers: tuple[int, ...] = ()
    faces: int | None = None  # how many of them show the face, where ``numbers`` are not known

    @property
    def probabilities(self) -> Floats | None:
        """(C,)."""
        return None if self.scores is None else self.scores.probabilities

    def predicted(self, below: float | None = None) -> int | None:
        """The most probable class; None without a prediction, and where it is less probable than ``below``."""
        if self.probabilities is None or self.probabilities.max() < (below or 0.0):
            return None
        return int(self.probabilities.argmax())

    @property
    def scored(self) -> bool:
        return self.truth is not None and self.scores is not None


def with_truths(
    clips: Sequence[EvaluatedClip], classes: Sequence[str], label_map: LabelMap | None
) -> list[EvaluatedClip]:
    """The clips with their true classes. Raises DataError for labels that are none of the classes."""
    index = match_labels((clip.label for clip in clips if clip.label), classes, label_map)
    return [replace(clip, truth=index[clip.label]) if clip.label else clip for clip in clips]


def read_videos(path: Path, wanted: str = "video[,label,...] is wanted") -> list[EvaluatedClip]:
    """The clips of a CSV with the columns ``video`` and, for those that are to be scored, ``label``.

    Videos are named relative to the folder of the CSV. Raises DataError, whose message ends with ``wanted``.
    """
    table = read_table(path, ("video",), wanted, ("label", "split", "subject"))
    clips = []
    for line, row in table.rows:
        if not row["video"]:
            raise DataError(f"{path}: line {line} names no video")
        about = dict(zip(table.columns, row.values(), strict=True))
        clips.append(EvaluatedClip(file_name(row["video"]), about, row.get("label", "")))
    if not clips:
        raise DataError(f"{path}: names no video; a row per video is wanted")
    return clips


def choose_prepared(
    prepared: PreparedSet, partition: str | None = None, split: str | None = None
) -> tuple[str, list[EvaluatedClip]]:
    """The labelled clips of a prepared set that are to be evaluated, and in words which they are.

    Clips without a face are among them, with an error. partition: its test clips; split: its clips; neither: the test
    clips of a set that is divided in train and val, or train and test, else all. Raises DataError.
    """
    clips = []
    for row in read_rows(prepared.folder / CLIPS_FILE, CLIP_COLUMNS):
        if row["label"]:
            about = {name: row[name] for name in ("clip", "label", "split", "subject", "fold")}
            error = "" if row["status"] == OK else row["message"] or row["status"]
            clips.append(
                EvaluatedClip(file_name(row["clip"]), about, row["label"], error=error, frames=int(row["frames"] or 0))
            )
    if partition is not None and split is not None:
        raise DataError("--partition and --split: one of them is wanted")
    splits = {clip.about["split"] for clip in clips}
    tested = "val" if "val" in splits else "test"
    if partition is None and split is None and prepared.folds is None and {"train", tested} <= splits:
        partition = tested
    if partition is not None:
        name = find_partition(prepared, partition).name
        column, value = ("split", name) if name in ("val", "test") else ("fold", name.removeprefix("fold-"))
        return f"the test clips of {name}", only(clips, column, value)
    if split is not None:
        return f"split {split}", only(clips, "split", split)
    seen = "; a network that was trained on some of them scores too well" if prepared.folds is not None else ""
    return f"all clips{seen}", clips


def choose_videos(path: Path, split: str | None = None) -> tuple[str, list[EvaluatedClip]]:
    """The videos of a CSV file, or those of a split, and in words which they are. Raises DataError."""
    clips = read_videos(path)
    return (f"split {split}", only(clips, "split", split)) if split is not None else ("all videos", clips)


def find_column(clips: Sequence[EvaluatedClip], name: str) -> str | None:
    """The column of that name as the clips spell it; None where they have none."""
    key = name_key(name)
    return next((column for clip in clips[:1] for column in clip.about if name_key(column) == key), None)


def column_key(column: str) -> Callable[[str], str]:
    """What the values of a column are compared by."""
    return {"split": split_key, "subject": person_key}.get(name_key(column), name_key)


def only(clips: Sequence[EvaluatedClip], column: str, value: str) -> list[EvaluatedClip]:
    """The clips with this value in a column. Raises DataError where there are none, with the values that there are."""
    column = find_column(clips, column) or column
    key = column_key(column)
    chosen = [clip for clip in clips if key(clip.about.get(column, "")) == key(value)]
    if not chosen or not key(value):
        spellings = Spellings(column, key)
        values = sorted({spellings.keep(clip.about[column]) for clip in clips if clip.about.get(column)})
        there = f"there are {', '.join(values)}" if values else "no clip has one"
        raise DataError(f"no clip has {column} {value!r}; {there}")
    return chosen


def evaluate_prepared(
    recognizer: Recognizer, prepared: PreparedSet, clips: Sequence[EvaluatedClip], formula: str = "paper"
) -> list[EvaluatedClip]:
    """What the recognizer says about clips of a prepared set, from features that are computed once and kept there."""
    packed = prepared_features(recognizer.embedder, prepared)
    place = {clip.name: index for index, clip in enumerate(prepared.clips)}
    rows = [row for row, clip in enumerate(clips) if not clip.error]
    chosen = [place[clips[row].name] for row in rows]
    scores = score_clips(recognizer.network, packed, chosen, formula)
    done = list(clips)
    for row, index, clip in zip(rows, chosen, scores, strict=True):
        if clip.is_finite:
            done[row] = replace(clips[row], scores=clip, numbers=prepared.clips[index].numbers)
        else:
            done[row] = replace(clips[row], error=NOT_FINITE)
    return done


def predict_videos(
    recognizer: Recognizer,
    clips: Sequence[EvaluatedClip],
    folder: Path,
    done: Callable[[], object],
    workers: int = 0,
    time_limit: float = TIME_LIMIT,
) -> tuple[list[EvaluatedClip], bool]:
    """What the recognizer says about videos named relative to ``folder``, and whether the user ended it early.

    A video that cannot be read gets an error, and so do those that an interruption leaves. ``done`` is called after
    each. workers, time_limit: as for :func:`fan_fer.base.workers.run_tasks`.
    """
    names = dict.fromkeys(clip.name for clip in clips)
    told: dict[str, dict[str, Any]] = {}
    left = ""
    try:
        with closing(run_tasks(partial(_Predict, recognizer, folder), names, workers, time_limit)) as results:
            for name, result in results:
                told[name] = {"error": result.why} if isinstance(result, Lost) else result
                done()
    except KeyboardInterrupt:
        left = INTERRUPTED
    except FanFerError as error:
        if not told:
            raise
        left = f"not done: {error}"
    return [replace(clip, **told.get(clip.name, {"error": left})) for clip in clips], left == INTERRUPTED


class _Predict:
    """What is found out about a video, in this process or in one beside it."""

    def __init__(self, recognizer: Recognizer, folder: Path) -> None:
        self._recognizer, self._folder = recognizer, folder

    def __call__(self, name: str, report: Report) -> dict[str, Any]:
        try:
            prediction = self._recognizer.predict(self._folder / name, report)
        except FanFerError as error:
            return {"error": str(error)}
        except Exception as error:  # a fault that one video of many brings to light ends nothing
            return {"error": f"{name}: {fault_line(error)}"}
        faces = [frame for frame in prediction.frames if frame.has_face]
        scores = ClipScores(
            probabilities=np.array(list(prediction.probabilities.values())),
            weights=np.array([frame.weight for frame in faces]),
            own=np.array([list((frame.probabilities or {}).values()) for frame in faces]),
        )
        numbers = tuple(frame.index for frame in faces)
        return {"frames": prediction.frames_total, "scores": scores, "numbers": numbers}
