"""Videos predicted by workers on many machines, by way of Ray Data (docs/many-videos.md)."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fan_fer.base.errors import FanFerError, first_line
from fan_fer.base.extras import need
from fan_fer.many.job import Outcomes
from fan_fer.many.work import Result, Work, failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOCAL = "local"
ATTEMPTS = 3  # at a video whose worker dies, or is lost with its machine
LONGEST = 1e6  # seconds that faulthandler can wait
MOST_BLOCKS = 20_000  # more videos than this are handed out several at a time


def check(workers: int | None) -> None:
    """Raises FanFerError for a number of workers that cannot be, LibraryError without Ray Data."""
    if workers is not None and workers < 1:
        raise FanFerError(f"{workers} workers: at least 1 is wanted")
    need("ray", "a Ray cluster")


def predict_on_cluster(
    work: Work, videos: Sequence[str], address: str, workers: int | None, time_limit: float
) -> Outcomes:
    """Predicts the videos on the cluster at ``address``, which is started and ended here where that is "local".

    Raises FanFerError where the cluster cannot be reached, and where no worker can be started.
    """
    with _cluster(address, workers):
        yield from _predict(work, videos, workers, time_limit)


class _Attempts:
    """Counts how often workers began with a video and did not come to its end. One for all, in a process of its own."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def begin(self, video: str) -> int:
        self._open[video] += 1
        return self._open[video]

    def end(self, video: str) -> None:
        del self._open[video]


class _ClusterWorker:
    """Lives in a process of its own on one of the machines. Where it dies, Ray starts another and repeats the call."""

    def __init__(self, work: Work, attempts: Any, time_limit: float) -> None:
        self._work, self._attempts = work, attempts
        self._time_limit = time_limit
        self._nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115, as long as this lives
        self._fault = ""
        try:
            self._recognizer = work.load()
        except FanFerError as error:  # raised here it would be pages of Ray's
            self._fault = f"{platform.node()}: {error}"

    def __call__(self, batch: dict[str, NDArray[np.object_]]) -> dict[str, list[str]]:
        videos = [str(video) for video in batch["video"]]
        results = [json.dumps(self._fault or self._predict(video)) for video in videos]
        return {"video": videos, "result": results}

    def _predict(self, video: str) -> Result:
        import ray

        # Ray repeats without end, and there are videos that no worker survives.
        if ray.get(self._attempts.begin.remote(video)) > ATTEMPTS:
            return failure(f"its worker died, hung or was lost, {ATTEMPTS} times; perhaps memory ran out")
        self._getting_on()
        try:
            result = self._work.predict(self._recognizer, video, self._getting_on)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._attempts.end.remote(video)
        return result

    def _getting_on(self, *_: object) -> None:
        """Ends this process when it is not called again in time, whatever a decoder holds."""
        faulthandler.dump_traceback_later(min(self._time_limit, LONGEST), exit=True, file=self._nowhere)


def _predict(work: Work, videos: Sequence[str], workers: int | None, time_limit: float) -> Outcomes:
    import ray
    import ray.data

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if work.device == "auto":
        work = replace(work, device="cuda" if resources.get("GPU", 0) >= 1 else "cpu")
    resource = "GPU" if work.device.startswith("cuda") else "CPU"
    available = int(resources.get(resource, 0))
    if not available:
        raise FanFerError(f"the Ray cluster has no {resource}")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False  # there is a bar
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what went wrong is said below
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()
    rows = ray.data.from_items(
        [{"video": video} for video in videos], override_num_blocks=min(len(videos), MOST_BLOCKS)
    )
    outcomes = rows.map_batches(
        _ClusterWorker,
        fn_constructor_args=(work, attempts, time_limit),
        batch_size=None,
        # One block at a time, so that none waits at a worker while others are idle.
        compute=ray.data.ActorPoolStrategy(
            size=min(workers or available, available, len(videos)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=1,
        num_gpus=int(resource == "GPU"),
    )
    try:
        for batch in outcomes.iter_batches(batch_size=None, prefetch_batches=0):
            for video, result in zip(batch["video"], batch["result"], strict=True):
                outcome = json.loads(str(result))
                if isinstance(outcome, str):
                    raise FanFerError(outcome)
                yield str(video), outcome
    except ray.exceptions.RayError as error:
        raise FanFerError(f"Ray: {str(error).strip().splitlines()[-1]}") from None


@contextmanager
def _cluster(address: str, workers: int | None) -> Iterator[None]:
    """Connects to the cluster, or starts one, while the block runs."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise FanFerError(f"Ray cluster {address}: cannot be reached ({first_line(error)})") from None
    try:
        yield
    finally:
        ray.shutdown()
