"""What ``fan-fer prepare`` does: a data set as it was published becomes aligned faces and tables, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fan_fer.base.errors import DataError
from fan_fer.base.files import exists, is_folder, lock, make_folder, real_path
from fan_fer.base.terminal import progress_bar
from fan_fer.base.workers import TIME_LIMIT, check_time_limit
from fan_fer.datasets.extraction import PARTIAL_FOLDER, Task, done_clips
from fan_fer.datasets.files import (
    CLIP_COLUMNS,
    CLIPS_FILE,
    FRAME_COLUMNS,
    FRAMES_FILE,
    NO_FACE,
    OK,
    SETTINGS_FILE,
    UNREADABLE,
    SetSettings,
    read_settings,
    write_rows,
    write_settings,
)
from fan_fer.datasets.layouts import read_source
from fan_fer.datasets.listing import Source, SourceClip
from fan_fer.datasets.workers import extract_here, extract_in_processes
from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector

SMALLEST, LARGEST = 16, 1024  # side of the crops in pixels
SIZE = 128  # of the crops, as the network that ships takes them


@dataclass(frozen=True)
class Preparation:
    """What came of it: the set's settings, the rows of clips.csv, and which spellings of names were taken for one."""

    settings: SetSettings
    clips: tuple[dict[str, Any], ...]
    found_done: int  # clips that an earlier run had done
    notes: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()  # files of the source that are part of no clip


def prepare(
    layout: str,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    size: int | None = None,
    detector: str | Detector = "mtcnn",
    folds: int | None = None,
    classes: str | None = None,
    workers: int = 0,
    time_limit: float = TIME_LIMIT,
) -> Preparation:
    """Finds, aligns and writes the faces of a data set; see docs/datasets.md.

    size: side of the crops in pixels; None: that of a set that is there already, else 128, what the network that ships
        is fed. A network that is fed the very size sees what ``Recognizer.predict`` shows it.
    detector: as for ``load_recognizer``.
    folds: how many folds of persons; None: see :func:`fan_fer.datasets.layouts.read_source`.
    workers: processes beside this one; 0: everything is done in this one. Beside it, a clip that no process survives
        is one that cannot be read; an object as detector must then be one that pickles.
    time_limit: seconds without a further frame after which a clip that holds its worker is given up.

    What an earlier run with the same settings has done is kept, so an interrupted one goes on. Raises DataError for a
    source that is not laid out as said, and for a target that is something else or was made with other settings;
    DetectorError; OutputError where the target cannot be written; FanFerError where worker processes keep dying.
    """
    check_time_limit(time_limit)
    source, target = Path(source), Path(target)
    if size is None:
        size = read_settings(target).size if exists(target / SETTINGS_FILE) else SIZE
    if not SMALLEST <= size <= LARGEST:
        raise DataError(f"size {size}: a side of {SMALLEST} to {LARGEST} pixels is wanted")
    listing = read_source(layout, source, folds, classes)
    finder = load_detector(detector) if isinstance(detector, str) else detector
    settings = SetSettings(
        layout=layout,
        classes=listing.classes,
        size=size,
        template=tuple((float(x), float(y)) for x, y in TEMPLATE),
        detector=finder.name,
        folds=listing.folds,
        without_label=listing.without_label,
        complete=False,
    )
    _check_target(source, target, settings)
    task = Task(listing.root, target, size, settings.template)
    with _sole_use(target):
        try:
            records = {clip.name: record for clip in listing.clips if (record := task.record(clip)) is not None}
            found_done = len(records)
            _check_sources(source, target, listing, records)
            if not exists(target / SETTINGS_FILE) or replace(read_settings(target), complete=False) != settings:
                write_settings(target, settings)
            todo = [clip for clip in listing.clips if clip.name not in records]
            if workers and todo:
                outcomes = extract_in_processes(task, detector, todo, workers, time_limit)
            else:
                outcomes = extract_here(task, finder, todo)
            unreadable: dict[str, str] = {}
            with closing(outcomes), progress_bar() as progress:
                bar = progress.add_task("finding faces", total=len(listing.clips), completed=found_done)
                for clip, problem in outcomes:
                    if problem is not None:
                        unreadable[clip.name] = problem
                    progress.advance(bar)
            for clip in todo:
                record = task.record(clip)
                if record is not None:
                    records[clip.name] = record
            rows = _write_tables(target, listing.clips, records, unreadable)
        finally:
            shutil.rmtree(target / PARTIAL_FOLDER, ignore_errors=True)
        if not any(row["status"] == OK for row in rows):
            raise DataError(f"{source}: {finder.name} finds no face in any of the {len(rows)} clips; see {CLIPS_FILE}")
        settings = replace(settings, complete=True)
        write_settings(target, settings)
    return Preparation(settings, tuple(rows), found_done, listing.notes, listing.not_taken)


def _check_target(source: Path, target: Path, settings: SetSettings) -> None:
    """Raises DataError where the target is something else, or was made with other settings."""
    inner, outer = real_path(target), real_path(source)
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise DataError(f"{target}: {source} and the prepared set must not lie in each other; another folder is wanted")
    if exists(target) and not is_folder(target):
        raise DataError(f"{target}: is a file; the name of a folder is wanted")
    if exists(target / SETTINGS_FILE):
        before = read_settings(target)
        changed = [
            f"{name} {getattr(before, name)} -> {getattr(settings, name)}"
            for name in ("layout", "size", "template", "detector")
            if getattr(before, name) != getattr(settings, name)
        ]
        if changed:
            raise DataError(f"{target}: made with other settings ({', '.join(changed)}); use those, or another folder")
    elif any(not name.startswith(".") for name in _names(target)):
        raise DataError(f"{target}: holds files and is no prepared set; a new or an empty folder is wanted")


def _names(folder: Path) -> list[str]:
    """What is in a folder, if there is one. Raises DataError."""
    try:
        return os.listdir(folder) if is_folder(folder) else []  # noqa: PTH208
    except OSError as error:
        raise DataError(f"{folder}: cannot be looked into ({error.strerror})") from None


@contextmanager
def _sole_use(folder: Path) -> Iterator[None]:
    """Makes the folder, and keeps other processes from preparing into it while the block runs."""
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not lock(handle):
            raise DataError(f"{folder}: another fan-fer prepare is at work there; wait for it to end")
        yield
    finally:
        os.close(handle)


def _check_sources(source: Path, target: Path, listing: Source, records: dict[str, dict[str, Any]]) -> None:
    """Raises DataError where clips that are done are not those of the source: nothing is thrown away."""
    names = {clip.name for clip in listing.clips}
    foreign = [name for name in done_clips(target) if name not in names]
    foreign += [
        clip.name for clip in listing.clips if records.get(clip.name, {}).get("source", clip.source) != clip.source
    ]
    if foreign:
        what = f"which is not in {source}, or of no class that is kept"
        raise DataError(f"{target}: holds the clip {foreign[0]}, {what}; another folder is wanted")
    for clip in listing.clips:
        found, done = len(clip.images or ()), len(records.get(clip.name, {}).get("frames", ()))
        if clip.images is not None and clip.name in records and found != done:
            raise DataError(
                f"{target}: the clip {clip.name} was done when it had {done} images, in {source} it has {found}; "
                "another folder is wanted"
            )


def _write_tables(
    target: Path, clips: Sequence[SourceClip], records: dict[str, dict[str, Any]], unreadable: dict[str, str]
) -> list[dict[str, Any]]:
    """Writes frames.csv and clips.csv; returns the rows of the latter."""
    clip_rows: list[dict[str, Any]] = []
    frame_rows: list[dict[str, Any]] = []
    for clip in clips:
        row: dict[str, Any] = {"clip": clip.name, "label": clip.label, "split": clip.split, "subject": clip.subject}
        row |= {"fold": clip.fold, "source": clip.source}
        if clip.name in records:
            frames, notes = records[clip.name]["frames"], records[clip.name]["notes"]
            faces = sum(frame["status"] == OK for frame in frames)
            more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
            row |= {"frames": len(frames), "faces": faces, "status": OK if faces else NO_FACE}
            row |= {"message": f"{notes[0]}{more}" if notes else None}
            for frame in frames:
                image = "" if clip.images is None else f"/{clip.images[frame['frame']]}"
                frame_rows.append({"clip": clip.name, "source": f"{clip.source}{image}", **frame})
        else:
            row |= {"frames": 0, "faces": 0, "status": UNREADABLE, "message": unreadable[clip.name]}
        clip_rows.append(row)
    write_rows(target / FRAMES_FILE, FRAME_COLUMNS, frame_rows)
    write_rows(target / CLIPS_FILE, CLIP_COLUMNS, clip_rows)
    return clip_rows
