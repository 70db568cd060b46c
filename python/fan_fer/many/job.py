"""A list of videos from its first row to the table of results, whoever makes the predictions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fan_fer.attention.scoring import ClipScores
from fan_fer.base.csv_files import write_table
from fan_fer.base.errors import DataError, OutputError
from fan_fer.base.extras import need
from fan_fer.base.files import check_writable, exists, is_file, readable, real_path
from fan_fer.base.parquet_files import is_parquet, write_parquet
from fan_fer.base.terminal import progress_bar
from fan_fer.evaluation.clips import EvaluatedClip, find_column, read_videos, with_truths
from fan_fer.evaluation.labels import LabelMap
from fan_fer.evaluation.summary import Summary, summarise
from fan_fer.many.journal import Journal, journal_path, relative_folder
from fan_fer.many.work import Result, Work
from fan_fer.prediction import SCHEMA_VERSION

Outcomes = Generator[tuple[str, Result], None, None]
"""Names of videos with their results, as they are done. Close it to stop the work."""


def run_job(
    listing: Path,
    out: Path,
    work: Work,
    predict: Callable[[Sequence[str]], Outcomes],
    label_map: LabelMap | None = None,
    retry_failed: bool = False,
    abstain: float | None = None,
) -> Summary:
    """Has ``predict`` make the results that are missing, then writes the table and scores it.

    A video that several rows name is predicted once. Results are kept in a journal beside ``out`` as they come, so a
    job that was interrupted or killed goes on. retry_failed: videos with an error are done again. abstain: below this
    probability nothing is predicted.
    Raises LibraryError for labels without the extra ``train``, DataError, WeightsError, DetectorError and OutputError,
    all but the last before any work is done.
    """
    if exists(out) and not is_file(out):
        raise OutputError(f"{out}: is no file; the name of a CSV or Parquet file is wanted")
    check_writable(out)
    is_parquet(out)
    clips = read_videos(listing)
    if real_path(out) in {real_path(listing), *(real_path(listing.parent / clip.name) for clip in clips)}:
        raise OutputError(f"{out}: is the list, or one of its videos; another name is wanted")
    card, detector = work.check()
    taken = [column for name in result_columns(card.classes) if (column := find_column(clips, name))]
    if taken:
        raise DataError(f"{listing}: has the column {taken[0]}, which the results have too; another name is wanted")
    clips = with_truths(clips, card.classes, label_map)
    if any(clip.truth is not None for clip in clips):
        need("train", "scoring labelled videos")
    settings = {
        "folder": relative_folder(work.folder, out),
        "weights": work.fingerprint,
        "detector": detector,
        "classes": list(card.classes),
    }
    with Journal(journal_path(out), settings) as journal:
        videos = list(dict.fromkeys(clip.name for clip in clips))
        done = {name for name, result in journal.results.items() if not (retry_failed and result["error"])}
        todo = [video for video in videos if video not in done]
        if todo:
            with closing(predict(todo)) as outcomes, progress_bar() as bars:
                bar = bars.add_task("videos", total=len(videos), completed=len(videos) - len(todo))
                for video, result in outcomes:
                    journal.add(video, result)
                    bars.advance(bar)
        results = [journal.results[clip.name] for clip in clips]
    clips = [_with_result(clip, result) for clip, result in zip(clips, results, strict=True)]
    made_by: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "weights_file": readable(work.weights)}
    made_by |= {"variant": card.variant, "backbone": card.backbone, "detector": detector}
    made_by |= {"trained_on": card.trained_on, "license": card.license, "abstain": abstain}
    _write_table(out, clips, results, card.classes, abstain, made_by)
    about: dict[str, Any] = {"model": {"file": work.weights}, "data": str(listing), "which": "all videos"}
    return summarise(about, card.classes, clips, abstain=abstain)


def result_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns that follow those of the list."""
    return "predicted", *(f"p_{name}" for name in classes), "frames", "faces", "heaviest", "warnings", "error"


def _with_result(clip: EvaluatedClip, result: Result) -> EvaluatedClip:
    if result["error"]:
        return replace(clip, error=result["error"])
    # What the frames weigh and show is not kept of many videos.
    scores = ClipScores(np.array(result["probabilities"]), np.zeros(0), np.zeros((0, len(result["probabilities"]))))
    return replace(clip, frames=result["frames"], faces=result["faces"], scores=scores)


def _write_table(
    out: Path,
    clips: Sequence[EvaluatedClip],
    results: Sequence[Result],
    classes: Sequence[str],
    abstain: float | None,
    about: dict[str, Any],
) -> None:
    rows = []
    for clip, result in zip(clips, results, strict=True):
        row: dict[str, Any] = {**clip.about, "error": result["error"]}
        if clip.probabilities is not None:
            predicted = clip.predicted(abstain)
            row |= {"predicted": None if predicted is None else classes[predicted]}
            row |= {f"p_{name}": round(p, 7) for name, p in zip(classes, result["probabilities"], strict=True)}
            row |= {"frames": result["frames"], "faces": result["faces"]}
            row |= {"heaviest": " ".join(f"{time:g}" for time in result["heaviest"])}
            row |= {"warnings": "; ".join(result["warnings"])}
        rows.append(row)
    columns = [*clips[0].about, *result_columns(classes)]
    if not is_parquet(out):
        write_table(out, columns, rows)
        return
    numbers = {"frames": int, "faces": int, **{f"p_{name}": float for name in classes}}
    write_parquet(out, {name: numbers.get(name, str) for name in columns}, rows, about)
