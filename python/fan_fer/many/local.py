"""Predictions for a manifest on one machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fan_fer.base.device import find_device
from fan_fer.base.errors import FanFerError
from fan_fer.base.processes import cpus
from fan_fer.evaluation.labels import LabelMap
from fan_fer.evaluation.summary import Summary
from fan_fer.faces.face import Detector
from fan_fer.many.job import Outcomes, run_job
from fan_fer.many.processes import predict_here, predict_in_processes
from fan_fer.many.work import make_work

WORKERS_OF_A_GPU = 4  # they share its memory


def predict_manifest(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    detector: str | Detector = "mtcnn",
    device: str = "cpu",
    label_map: LabelMap | None = None,
    retry_failed: bool = False,
) -> Summary:
    """Predicts every video of a CSV file and writes the CSV file ``out``; see docs/many-videos.md.

    manifest: has the column ``video``, paths relative to its folder, and perhaps ``label``.
    workers: processes beside this one; None: one per core, at most four with cuda; 0: everything is done in this one.
        A script that calls this needs the usual ``if __name__ == "__main__":``.
    weights, detector, device: as for ``load_recognizer``; a detector that is an object must be one that pickles.
    label_map: which class each label is, None for labels that are left out.
    retry_failed: do those videos again that an earlier run could not do.

    Returns the rows and their scores. A video that cannot be done is a row with an error. What an earlier run with the
    same settings has done is kept. Raises DataError, WeightsError, DetectorError, OutputError, and FanFerError where
    worker processes keep dying.
    """
    manifest, out = Path(manifest), Path(out)
    kind = find_device(device).type
    cores = cpus()
    if workers is None:
        workers = min(cores, WORKERS_OF_A_GPU) if kind == "cuda" else cores
    if workers < 0:
        raise FanFerError(f"{workers} workers: 0 or more are wanted")
    work = make_work(manifest, weights, detector, device, max(1, cores // workers) if workers else None)

    def predict(videos: Sequence[str]) -> Outcomes:
        return predict_in_processes(work, videos, workers) if workers else predict_here(work, videos)

    return run_job(manifest, out, work, predict, label_map, retry_failed)
