"""Clips worked on in several processes, which may be interrupted and may die."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event

import cv2

from fan_fer.base.errors import FanFerError, VideoError
from fan_fer.base.files import is_folder
from fan_fer.base.processes import end_with_parent, interrupts_held
from fan_fer.datasets.extraction import PARTIAL_FOLDER, Task
from fan_fer.datasets.layouts import SourceClip
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


def extract_in_processes(task: Task, detector: str | Detector, clips: Sequence[SourceClip], workers: int) -> Outcomes:
    """Extracts the clips in ``workers`` processes, in no particular order.

    detector: its name, as for ``load_detector``, or a detector that can be pickled.
    Raises what a worker raises, and FanFerError where a worker died; the other workers then leave the clips that they
    are at, as they do when this process is interrupted or killed.
    """
    context = multiprocessing.get_context("spawn")  # OpenCV and torch do not survive a fork
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _ExtractionWorker.start, (task, detector, stop))
    try:
        with interrupts_held():
            futures = {pool.submit(_ExtractionWorker.extract, clip): clip for clip in clips}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise FanFerError(
            f"a worker process died{_at_work(task, clips)}; perhaps memory ran out. What is done is kept: "
            "the same command goes on, and needs less memory with fewer --workers"
        ) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class _ExtractionWorker:
    """What a worker process knows."""

    task: Task
    detector: str | Detector
    stop: Event

    @classmethod
    def start(cls, task: Task, detector: str | Detector, stop: Event) -> None:
        cls.task, cls.detector, cls.stop = task, detector, stop
        end_with_parent()
        os.environ["OMP_NUM_THREADS"] = "1"  # for torch, where the detector imports it
        cv2.setNumThreads(1)

    @classmethod
    def extract(cls, clip: SourceClip) -> str | None:
        if isinstance(cls.detector, str):
            cls.detector = load_detector(cls.detector)
        return _extract(cls.task, cls.detector, clip, cls.stop)


def _extract(task: Task, detector: Detector, clip: SourceClip, stop: Event | None = None) -> str | None:
    def report(_: int) -> None:
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt

    try:
        task.extract(clip, detector, report)
    except VideoError as error:
        return task.shorten(str(error))
    return None


def _at_work(task: Task, clips: Sequence[SourceClip]) -> str:
    """The clips that workers had begun and not ended."""
    names = [clip.name for clip in clips if is_folder(task.target / PARTIAL_FOLDER / clip.name)]
    return f" while at work on {' or '.join(names)}" if names else ""
