"""Videos predicted in processes of their own, one of which may die without taking the others along."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event

from fan_fer.base.errors import FanFerError
from fan_fer.base.processes import end_with_parent, interrupts_held
from fan_fer.many.job import Outcomes
from fan_fer.many.work import Result, Work, failure
from fan_fer.recognizer import Recognizer

ATTEMPTS = 2  # at a video that its process does not survive
DEATHS = 6  # in a row, after which it is not the videos' fault


def predict_here(work: Work, videos: Sequence[str]) -> Outcomes:
    """Predicts the videos one after the other in this process."""
    recognizer = work.load()
    for video in videos:
        yield video, work.predict(recognizer, video)


def predict_in_processes(work: Work, videos: Sequence[str], workers: int) -> Outcomes:
    """Predicts the videos in ``workers`` processes, in no particular order.

    A process that dies is replaced, and its video tried once more before it counts as failed. Raises FanFerError where
    processes keep dying, and what loading the recognizer raises. The workers end with this process.
    """
    context = multiprocessing.get_context("spawn")  # OpenCV and torch do not survive a fork
    stop = context.Event()

    def start() -> ProcessPoolExecutor:
        # One process each, so that it is known whose death it was.
        return ProcessPoolExecutor(1, context, _ProcessWorker.start, (work, stop))

    waiting = deque((video, 1) for video in videos)
    idle = [start() for _ in range(min(workers, len(waiting)))]
    running: dict[Future[Result], tuple[ProcessPoolExecutor, str, int]] = {}
    deaths = 0
    try:
        while waiting or running:
            with interrupts_held():
                while waiting and idle:
                    pool, (video, attempt) = idle.pop(), waiting.popleft()
                    running[pool.submit(_ProcessWorker.predict, video)] = pool, video, attempt
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool, video, attempt = running.pop(future)
                try:
                    result = future.result()
                    deaths = 0
                    idle.append(pool)
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    idle.append(start())
                    deaths += 1
                    if deaths == DEATHS:
                        raise FanFerError(
                            f"worker processes keep dying, the last one while at work on {video}; perhaps memory ran "
                            "out. What is done is kept: the same command goes on, and needs less memory with fewer "
                            "--workers"
                        ) from None
                    if attempt < ATTEMPTS:
                        waiting.appendleft((video, attempt + 1))
                        continue
                    result = failure(f"its process died, {attempt} times; perhaps memory ran out")
                yield video, result
    finally:
        stop.set()
        for pool in (*idle, *(pool for pool, _, _ in running.values())):
            pool.shutdown(cancel_futures=True)


class _ProcessWorker:
    """What a worker process knows."""

    work: Work
    stop: Event
    recognizer: Recognizer | None = None

    @classmethod
    def start(cls, work: Work, stop: Event) -> None:
        cls.work, cls.stop = work, stop
        end_with_parent()

    @classmethod
    def predict(cls, video: str) -> Result:
        if cls.recognizer is None:
            cls.recognizer = cls.work.load()
        return cls.work.predict(cls.recognizer, video, cls._report)

    @classmethod
    def _report(cls, *_: object) -> None:
        if cls.stop.is_set():
            raise KeyboardInterrupt
