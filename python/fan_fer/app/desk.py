"""The clips that are at hand, on disk, and the processes that read them in the order they came.

Each clip is a folder with ``job.json``, written when the clip is accepted and when it is finished: what is accepted is
read, also after a restart.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fan_fer.app.metrics import Metrics
from fan_fer.app.reading import JOB, MADE, VIDEO, Networks, Outcome, Reader, Task
from fan_fer.app.uploads import Limits
from fan_fer.base.errors import DataError, FanFerError, OutputError, one_line
from fan_fer.base.files import lock, make_folder, read_file, reason
from fan_fer.base.streams import note
from fan_fer.base.texts import parse_json, write_json
from fan_fer.base.workers import TIME_LIMIT, Lost, run_tasks

RECEIVING, WAITING, READING, DONE, FAILED = "receiving", "waiting", "reading", "done", "failed"
STATES = (RECEIVING, WAITING, READING, DONE, FAILED)
FINISHED = (DONE, FAILED)
PAUSE = 5.0  # seconds before another attempt where the disk is full, or processes cannot be started


class DeskFull(FanFerError):
    """As many clips wait as are taken. ``seconds``: when one more may fit."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass
class Clip:
    """One uploaded video: its folder, and how far it has come."""

    id: str
    name: str
    folder: Path
    pictures: bool = False
    accepted: float = 0.0  # seconds since 1970
    finished: float = 0.0
    state: str = RECEIVING
    stage: str = ""
    done: int = 0
    total: int | None = None
    error: str = ""
    discarded: bool = False
    users: int = 0  # of its files at this moment; the last one deletes them where the clip has been thrown away
    seen: float = field(default_factory=time.monotonic)
    playable: threading.Lock = field(default_factory=threading.Lock)  # held while its copy is written

    @property
    def video(self) -> Path:
        return self.folder / VIDEO

    @property
    def made(self) -> Path:
        return self.folder / MADE

    def save(self, state: str) -> None:
        """What the next process knows of it, in this state. Raises OutputError."""
        kept = {name: getattr(self, name) for name in ("name", "pictures", "accepted", "finished", "error")}
        write_json(self.folder / JOB, {**kept, "state": state})


class Desk:
    """Takes clips in, has them read in turn, and throws them away.

    workers: processes that read, each one clip at a time; 0: a thread of this process.
    data: the folder in which clips outlive this process, and are kept for ``keep`` seconds after they are finished.
        None: a temporary one, where a clip is kept for as long as it is asked for every ``keep`` seconds.
    time_limit: as for :func:`fan_fer.base.workers.run_tasks`.
    Raises OutputError where the folder cannot be used, DataError where another process uses it.
    """

    def __init__(
        self,
        networks: Networks,
        limits: Limits,
        workers: int,
        keep: float,
        data: Path | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self.networks, self.limits = networks, limits
        self.workers = workers
        self.ready = 0  # processes that have loaded the networks
        self.metrics = Metrics(workers, self.counts, lambda: self.ready)
        self._start, self._time_limit = partial(Reader, networks, limits), time_limit
        self._lasting, self._keep = data is not None, keep
        self._clips: dict[str, Clip] = {}
        self._lock = threading.Lock()
        self._queue: queue.Queue[Clip | None] = queue.Queue()
        self._closed = threading.Event()
        self.folder = self._open(data)
        targets = [self._sweep, *[self._work] * max(1, workers)]
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    def _open(self, data: Path | None) -> Path:
        if data is None:
            return Path(tempfile.mkdtemp(prefix="fan-fer-app-"))
        folder = data / "clips"
        make_folder(folder)
        try:
            folder.chmod(0o700)
            self._file = (data / "lock").open("ab")
        except OSError as error:
            raise OutputError(f"{data}: cannot be used ({reason(error)})") from None
        if not lock(self._file):
            self._file.close()
            raise DataError(f"{data}: another fan-fer serve uses this folder; another --data is wanted")
        ours = [Path(entry.path) for entry in os.scandir(folder) if re.fullmatch("[0-9a-f]{32}", entry.name)]
        for clip in sorted(filter(None, map(self._recall, ours)), key=lambda clip: clip.accepted):
            self._clips[clip.id] = clip
            if clip.state == WAITING:
                self._queue.put(clip)
        return folder

    def _recall(self, folder: Path) -> Clip | None:
        """A clip of an earlier process; None for one that was not accepted, which is deleted."""
        try:
            clip = Clip(folder.name, folder=folder, **parse_json(read_file(folder / JOB)))
        except (OSError, ValueError, TypeError):
            _delete(folder)
            return None
        clip.seen -= max(0.0, time.time() - clip.finished)
        return clip

    def open(self, name: str, pictures: bool = False) -> Clip:
        """A clip with an empty folder of its own, whose video is still to be put there. Raises DeskFull, OSError."""
        with self._lock:
            waiting = sum(clip.state not in FINISHED for clip in self._clips.values())
            if waiting >= self.limits.clips:
                seconds = self.metrics.wait()
                held = "1 clip waits" if waiting == 1 else f"{waiting} clips wait"
                raise DeskFull(f"{held} already, and no more are taken; try again in {seconds} seconds", seconds)
            id = secrets.token_hex(16)
            clip = self._clips[id] = Clip(id, name, self.folder / id, pictures)
        try:
            clip.folder.mkdir(parents=True)  # the system may have tidied up
        except OSError:
            self.discard(clip)
            raise
        return clip

    def submit(self, clip: Clip) -> None:
        """Accepts the clip, and puts it in line for reading. Raises OutputError."""
        clip.accepted = time.time()
        clip.save(WAITING)
        clip.state = WAITING
        self._queue.put(clip)

    def find(self, id: str) -> Clip | None:
        """The clip of this id, which counts as a sign of life; None where there is none (any more)."""
        with self._lock:
            clip = self._clips.get(id)
            if clip is not None and not self._lasting:
                clip.seen = time.monotonic()
            return clip

    @contextlib.contextmanager
    def use(self, clip: Clip) -> Iterator[bool]:
        """Keeps the clip's files for as long as the block lasts; False where they are already thrown away."""
        with self._lock:
            kept = not clip.discarded
            clip.users += kept
        try:
            yield kept
        finally:
            with self._lock:
                clip.users -= kept
                last = kept and clip.discarded and clip.users == 0
            if last:
                _delete(clip.folder)

    def counts(self) -> dict[str, int]:
        """How many clips are in each state."""
        with self._lock:
            states = [clip.state for clip in self._clips.values()]
        return {state: states.count(state) for state in STATES}

    def ahead_of(self, clip: Clip) -> int:
        """How many clips are finished before this one is begun, at most."""
        with self._lock:
            in_line = [other for other in self._clips.values() if other.state in (WAITING, READING)]
        return in_line.index(clip) if clip in in_line else 0

    def discard(self, clip: Clip) -> None:
        """Ends the work on a clip and deletes everything of it, as soon as nobody uses its files."""
        with self._lock:
            self._clips.pop(clip.id, None)
            clip.discarded = True
            used = clip.users > 0
        if used:
            with contextlib.suppress(OSError):
                (clip.folder / JOB).unlink()
        else:
            _delete(clip.folder)

    def close(self) -> None:
        """Ends all work. Clips that do not outlive the process are deleted; others are read by the next one."""
        self._closed.set()
        if not self._lasting:
            for clip in list(self._clips.values()):
                self.discard(clip)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=10)
        if self._lasting:
            self._file.close()
        else:
            _delete(self.folder)

    def _work(self) -> None:
        """Has clips read, by one process; another one where it cannot go on."""
        while not self._closed.is_set():
            tasks = self._tasks()
            try:
                some = min(self.workers, 1)
                for task, outcome in run_tasks(
                    self._start, tasks, some, self._time_limit, self._progress, self._closed
                ):
                    self._settle(task, outcome)
            except Exception as error:
                if not self._closed.is_set():
                    note(f"fan-fer: error: {one_line(error)}; trying again in {PAUSE:g} seconds")
            finally:
                tasks.close()
            self._closed.wait(PAUSE)

    def _tasks(self) -> Generator[Task, None, None]:
        """The clips as they come. One that is not finished when this is closed is put back in line."""
        self._count_ready(1)
        try:
            while (clip := self._queue.get()) is not None and not self._closed.is_set():
                with self.use(clip) as kept:
                    if not kept:
                        continue
                    clip.state = READING
                    begun = time.monotonic()
                    try:
                        yield Task(clip.id, clip.folder, clip.name, clip.pictures)
                    finally:
                        if clip.state == READING:
                            clip.state = WAITING
                            self._queue.put(clip)
                        else:
                            self.metrics.seconds.observe(time.monotonic() - begun)
        finally:
            self._count_ready(-1)

    def _count_ready(self, more: int) -> None:
        with self._lock:
            self.ready += more

    def _progress(self, task: Task, stage: str, done: int, total: int | None) -> None:
        clip = self._clips.get(task.id)
        if clip is not None:
            clip.stage, clip.done, clip.total = stage, done, total

    def _settle(self, task: Task, outcome: Outcome | Lost) -> None:
        clip = self._clips.get(task.id)
        if clip is None:  # thrown away meanwhile
            return
        if isinstance(outcome, Lost):
            outcome = Outcome(error=f"{clip.name}: {outcome.why}")
        if not outcome.full:
            try:
                self._finish(clip, outcome)
                return
            except OutputError:
                clip.error, clip.finished = "", 0.0
        # It is still in hand, and put back in line.
        clip.state, clip.stage, clip.done = READING, "", 0
        note(f"fan-fer: warning: the disk is full: {self.folder}; clips wait")
        self._closed.wait(PAUSE)

    def _finish(self, clip: Clip, outcome: Outcome) -> None:
        """Raises OutputError."""
        clip.error, clip.finished = outcome.error, time.time()
        state = FAILED if outcome.error else DONE
        # Of a clip that failed only its message is still wanted, and of others the video is, for the page alone.
        if state == FAILED:
            shutil.rmtree(clip.made, ignore_errors=True)
        clip.save(state)
        if state == FAILED or not clip.pictures:
            clip.video.unlink(missing_ok=True)
        self.metrics.frames.inc(outcome.frames)
        self.metrics.finished.labels(state).inc()
        clip.seen, clip.state = time.monotonic(), state

    def _sweep(self) -> None:
        """Throws away the clips whose time is over."""
        while not self._closed.wait(min(10.0, self._keep / 4)):
            now = time.monotonic()
            with self._lock:
                expired = [clip for clip in self._clips.values() if self._is_over(clip, now)]
            for clip in expired:
                self.discard(clip)

    def _is_over(self, clip: Clip, now: float) -> bool:
        return now - clip.seen > self._keep and (clip.state in FINISHED or not self._lasting)


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
