"""The features of many videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fan_fer.base.errors import FanFerError, fault_line
from fan_fer.base.files import is_folder, readable
from fan_fer.base.processes import cpus
from fan_fer.base.workers import TIME_LIMIT, Lost, Report, check_time_limit, run_tasks
from fan_fer.evaluation.clips import INTERRUPTED, read_videos
from fan_fer.faces.face import Detector
from fan_fer.many.work import Work, make_work
from fan_fer.output.features import ClipFeatures, FeatureSet
from fan_fer.video.decoding import is_address
from fan_fer.video.sources import list_videos

Clips = str | os.PathLike[str]


@dataclass(frozen=True)
class _Task:
    """name: of the video, as it was given or as the list has it. path: where it is."""

    name: str
    path: str
    label: str = ""

    def __str__(self) -> str:
        return self.name


def extract_features(
    clips: Clips | Sequence[Clips],
    *,
    weights: str | os.PathLike[str] | None = None,
    detector: str | Detector = "mtcnn",
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    progress: Callable[[str, int, int], None] | None = None,
) -> FeatureSet:
    """Embedding, time, box, landmarks and weight of every frame of the clips, which other models can start from.

    clips: a video, its address, a folder whose videos are all read, or a .csv file with the column ``video``, paths
        relative to its folder, and perhaps ``label``; or several of these.
    weights, detector, device, precision, batch_size: as for ``load_recognizer``.
    workers: processes beside this one; None: one where there are several clips; 0: this one does everything.
    time_limit: seconds without a further frame after which a video that holds its worker is given up.
    progress: called with the name of a clip when it is done, the number of clips done, and of all clips.

    Clips are in the order given. One that cannot be read is a failure with a line that says why, and so is what an
    interruption by the user leaves undone. Raises WeightsError, DetectorError, and DataError for a list that is none.
    """
    check_time_limit(time_limit)
    tasks = _tasks([clips] if isinstance(clips, str | os.PathLike) else clips)
    if workers is None:
        workers = int(len(tasks) > 1)
    if workers < 0:
        raise FanFerError(f"{workers} workers: 0 or more are wanted")
    threads = max(1, cpus() // workers) if workers > 1 else None
    # The paths of the tasks are whole.
    work = replace(make_work(Path(), weights, detector, device, precision, batch_size, threads), folder="")
    done: dict[_Task, ClipFeatures] = {}
    failures: dict[_Task, str] = {}
    left = ""
    with closing(run_tasks(partial(_Extract, work), tasks, workers, time_limit)) as results:
        try:
            for task, result in results:
                if isinstance(result, ClipFeatures):
                    done[task] = result
                else:
                    failures[task] = f"{task.name}: {result.why}" if isinstance(result, Lost) else result
                if progress is not None:
                    progress(task.name, len(done) + len(failures), len(tasks))
        except KeyboardInterrupt:
            left = INTERRUPTED
        except FanFerError as error:
            if not done:
                raise
            left = f"not done: {error}"
    told = {task.name: failures.get(task, f"{task.name}: {left}") for task in tasks if task not in done}
    return FeatureSet(tuple(done[task] for task in tasks if task in done), told)


def _tasks(clips: Sequence[Clips]) -> list[_Task]:
    """A video that is named twice is read once."""
    tasks: list[_Task] = []
    for clip in [os.fspath(clip) for clip in clips]:
        if is_address(clip):
            tasks.append(_Task(clip, clip))
        elif Path(clip).suffix.lower() == ".csv" and not is_folder(clip):
            folder = Path(clip).parent
            tasks += [_Task(row.name, str(folder / row.name), row.label) for row in read_videos(Path(clip))]
        else:
            tasks += [_Task(str(video), str(video)) for video in list_videos([clip])]
    return list(dict.fromkeys(tasks))


class _Extract:
    """What is done with a video, in this process or in one beside it."""

    def __init__(self, work: Work) -> None:
        self._recognizer = work.load()

    def __call__(self, task: _Task, report: Report) -> ClipFeatures | str:
        try:
            features = self._recognizer.features(task.path, report)
        except FanFerError as error:
            return str(error)
        except Exception as error:  # a fault that one of many clips brings to light does not cost the others
            return f"{readable(task.name)}: {fault_line(error)}"
        return replace(features, label=task.label, prediction=replace(features.prediction, video=task.name))
