"""The clips of a data set, worked on in this process or in several."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial

from fan_fer.base.errors import VideoError
from fan_fer.base.opencv import cv2
from fan_fer.base.workers import Lost, Report, results_kept, run_tasks
from fan_fer.datasets.extraction import Task
from fan_fer.datasets.listing import SourceClip
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector

Outcomes = Generator[tuple[SourceClip, "str | None"], None, None]
"""Clips as they are done, each with what was wrong where no frame of it could be read. Close it to stop the work."""


def extract_here(task: Task, detector: Detector, clips: Sequence[SourceClip]) -> Outcomes:
    """Extracts the clips one after the other in this process."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for clip in clips:
            yield clip, _extract(task, detector, clip)
    finally:
        cv2.setNumThreads(threads)


def extract_in_processes(
    task: Task, detector: str | Detector, clips: Sequence[SourceClip], workers: int, time_limit: float
) -> Outcomes:
    """Extracts the clips in ``workers`` processes, in no particular order, as :func:`run_tasks` does.

    detector: its name, as for ``load_detector``, or a detector that can be pickled.
    A clip whose process dies twice or hangs cannot be read. Raises what a worker raises, and FanFerError where
    processes keep dying.
    """
    tasks = run_tasks(partial(_Extract, task, detector), clips, workers, time_limit)
    with results_kept(), closing(tasks) as outcomes:
        for clip, outcome in outcomes:
            yield clip, outcome.why if isinstance(outcome, Lost) else outcome


class _Extract:
    """What a worker process does."""

    def __init__(self, task: Task, detector: str | Detector) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"  # for torch, where the detector imports it
        cv2.setNumThreads(1)
        self._task = task
        self._detector = load_detector(detector) if isinstance(detector, str) else detector

    def __call__(self, clip: SourceClip, report: Report) -> str | None:
        return _extract(self._task, self._detector, clip, report)


def _extract(task: Task, detector: Detector, clip: SourceClip, report: Report | None = None) -> str | None:
    try:
        task.extract(clip, detector, report)
    except VideoError as error:
        return task.shorten(str(error))
    return None
