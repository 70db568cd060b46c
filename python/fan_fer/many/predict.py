"""Predictions for all videos of a list, on this machine or on a Ray cluster."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from fan_fer.base.device import find_device
from fan_fer.base.errors import FanFerError
from fan_fer.base.processes import cpus
from fan_fer.base.workers import TIME_LIMIT, check_time_limit
from fan_fer.evaluation.labels import LabelMap
from fan_fer.evaluation.summary import Summary
from fan_fer.faces.face import Detector
from fan_fer.many import processes, ray_workers
from fan_fer.many.job import run_job
from fan_fer.many.work import make_work
from fan_fer.prediction import check_abstain

WORKERS_OF_A_GPU = 4  # they share its memory


def predict_many(
    videos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    address: str | None = None,
    workers: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    detector: str | Detector = "mtcnn",
    device: str = "cpu",
    label_map: LabelMap | None = None,
    retry_failed: bool = False,
    time_limit: float = TIME_LIMIT,
    abstain: float | None = None,
) -> Summary:
    """Predicts every video of a CSV file and writes ``out``, .csv or .parquet; see docs/many-videos.md.

    videos: a CSV file with the column ``video``, paths relative to its folder, and perhaps ``label``.
    address: None for this machine; of a Ray cluster: "local" for one on this machine that ends with the work, "auto"
        or HOST:PORT for one that runs. A cluster that this process is connected to already is used in any case.
    workers: processes beside this one; None: one per core, at most four with cuda; 0: everything is done in this one.
        On a cluster each takes one core, with cuda also one GPU; None: as many as the cluster has of these.
    weights, detector, device: as for ``load_recognizer``; a detector that is an object must be one that pickles. On a
        cluster videos, weights and YuNet's file must have the same absolute paths on all machines.
    label_map: which class each label is, None for labels that are left out.
    retry_failed: do those videos again that an earlier run could not do.
    time_limit: seconds without a further frame after which a video that holds its worker is given up.
    abstain: the probability below which nothing is predicted. Another one changes the table, and nothing is done again.

    Returns the rows and their scores. A video that cannot be done is a row with an error. What an earlier run with the
    same settings has done is kept. A worker that dies is replaced and its video done again. Raises DataError,
    WeightsError, DetectorError, OutputError, and FanFerError where worker processes keep dying or cannot be started,
    and where the cluster cannot be reached; LibraryError for labels without the extra ``train``, and for a cluster
    without ``ray``.
    """
    check_time_limit(time_limit)
    check_abstain(abstain)
    finish = partial(run_job, label_map=label_map, retry_failed=retry_failed, abstain=abstain)
    videos, out = Path(videos), Path(out)
    if address is not None:
        ray_workers.check(workers)
        work = make_work(videos, weights, detector, device, threads=1)
        predict = partial(ray_workers.predict_on_cluster, work, address=address, workers=workers, time_limit=time_limit)
        return finish(videos, out, work, predict)
    kind = find_device(device).type
    cores = cpus()
    if workers is None:
        workers = min(cores, WORKERS_OF_A_GPU) if kind == "cuda" else cores
    if workers < 0:
        raise FanFerError(f"{workers} workers: 0 or more are wanted")
    if not workers:
        work = make_work(videos, weights, detector, device)
        return finish(videos, out, work, partial(processes.predict_here, work))
    work = make_work(videos, weights, detector, device, threads=max(1, cores // workers))
    predict = partial(processes.predict_in_processes, work, workers=workers, time_limit=time_limit)
    return finish(videos, out, work, predict)
