"""Videos predicted in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial

from fan_fer.base.workers import Lost, Report, results_kept, run_tasks
from fan_fer.many.job import Outcomes
from fan_fer.many.work import Result, Work, failure


def predict_here(work: Work, videos: Sequence[str]) -> Outcomes:
    """Predicts the videos one after the other in this process."""
    recognizer = work.load()
    for video in videos:
        yield video, work.predict(recognizer, video)


def predict_in_processes(work: Work, videos: Sequence[str], workers: int, time_limit: float) -> Outcomes:
    """Predicts the videos in ``workers`` processes, in no particular order, as :func:`run_tasks` does.

    A video whose process dies twice or hangs has failed. Raises FanFerError where processes keep dying or cannot be
    started, and what loading the recognizer raises.
    """
    tasks = run_tasks(partial(_Predict, work), videos, workers, time_limit)
    with results_kept(), closing(tasks) as results:
        for video, result in results:
            yield video, failure(result.why) if isinstance(result, Lost) else result


class _Predict:
    """What a worker process does."""

    def __init__(self, work: Work) -> None:
        self._work, self._recognizer = work, work.load()

    def __call__(self, video: str, report: Report) -> Result:
        return self._work.predict(self._recognizer, video, report)
