"""What a network makes of every frame of many clips, kept in a folder so that nothing is read twice."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from fan_fer.attention.scoring import Floats
from fan_fer.base.errors import FanFerError, fault_line
from fan_fer.base.files import atomic_write, is_folder, make_folder, read_file, readable
from fan_fer.base.opencv import cv2
from fan_fer.base.processes import cpus
from fan_fer.base.workers import TIME_LIMIT, Lost, Report, results_kept, run_tasks
from fan_fer.recognizer import Recognizer
from fan_fer.video.sources import visible_files

FORMAT_VERSION = 1
ARRAYS = ("times", "features", "own", "probabilities")


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of the n decoded frames of a clip, NaN for those without the face; all empty beside an error.

    times: (n,) seconds. features: (n, D) float32. own: (n, C), probabilities of each frame on its own.
    probabilities: (C,), of the clip. warnings: what was wrong and did not stop the work, a line each.
    """

    times: Floats
    features: NDArray[np.float32]
    own: Floats
    probabilities: Floats
    warnings: tuple[str, ...] = ()
    error: str = ""

    @classmethod
    def failed(cls, why: str) -> Reading:
        return cls(np.zeros(0), np.zeros((0, 0), np.float32), np.zeros((0, 0)), np.zeros(0), error=why)

    @property
    def has_face(self) -> NDArray[np.bool_]:
        """(n,)."""
        return np.asarray(np.isfinite(self.own).all(1))

    @property
    def predicted(self) -> int | None:
        return None if self.error else int(self.probabilities.argmax())


def read_clips(
    recognizer: Recognizer,
    paths: Iterable[Path],
    done: Callable[[], object],
    settings: str,
    cache: Path | None = None,
    workers: int = 0,
    time_limit: float = TIME_LIMIT,
) -> dict[Path, Reading]:
    """What the recognizer says of the clips. ``done`` is called after each.

    settings: what a reading depends on beside the clip. cache: a folder that keeps what was read; a clip that failed is
        tried again. workers, time_limit: as for :func:`fan_fer.base.workers.run_tasks`.
    A clip that cannot be read has an error. Raises OutputError where the folder cannot be written.
    """
    found: dict[Path, Reading] = {}
    names: dict[Path, Path] = {}
    for path in dict.fromkeys(paths):
        if cache is not None and (key := _key(path, settings)) is not None:
            names[path] = cache / f"{key}.npz"
            kept = _load(names[path])
            if kept is not None:
                found[path] = kept
                done()
    threads = max(1, cpus() // workers) if workers > 1 else None
    todo = [path for path in dict.fromkeys(paths) if path not in found]
    with results_kept(), closing(run_tasks(partial(_Read, recognizer, threads), todo, workers, time_limit)) as results:
        for path, result in results:
            found[path] = Reading.failed(result.why) if isinstance(result, Lost) else result
            if path in names and not found[path].error:
                _save(names[path], found[path])
            done()
    return found


class _Read:
    """What is done with a clip, in this process or in one beside it."""

    def __init__(self, recognizer: Recognizer, threads: int | None) -> None:
        self._recognizer = recognizer
        if threads is not None:
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)

    def __call__(self, path: Path, report: Report) -> Reading:
        try:
            clip = self._recognizer.features(path, report)
        except FanFerError as error:
            return Reading.failed(str(error))
        except Exception as error:  # a fault that one clip of many brings to light ends nothing
            return Reading.failed(f"{path}: {fault_line(error)}")
        classes = list(clip.prediction.probabilities)
        nothing = dict.fromkeys(classes, np.nan)
        own = [[(frame.probabilities or nothing)[name] for name in classes] for frame in clip.prediction.frames]
        whole = np.array(list(clip.prediction.probabilities.values()))
        return Reading(clip.times, clip.embeddings, np.array(own), whole, clip.prediction.warnings)


def _key(path: Path, settings: str) -> str | None:
    """Changes with the clip and with the settings; None for a clip that is not there."""
    files = sorted(visible_files(path)) if is_folder(path) else [path]
    try:
        stats = [(str(file), stat.st_size, stat.st_mtime_ns) for file in files for stat in (file.stat(),)]
    except (OSError, ValueError):
        return None
    about = json.dumps([FORMAT_VERSION, settings, str(path.absolute()), stats])
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _load(path: Path) -> Reading | None:
    """None where there is none, or a damaged one: it is read again."""
    try:
        with np.load(io.BytesIO(read_file(path))) as arrays:
            times, features, own, probabilities = (arrays[name] for name in ARRAYS)
            return Reading(times, features, own, probabilities, tuple(arrays["warnings"].tolist()))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _save(path: Path, reading: Reading) -> None:
    make_folder(path.parent)
    arrays = {name: getattr(reading, name) for name in ARRAYS}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, warnings=np.array([readable(line) for line in reading.warnings], np.str_))
