"""The clips that are at hand, and the one thread that reads them, one after the other.

A clip is kept for as long as its page shows signs of life. Nothing of it outlives the process.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fan_fer.app.reading import read_clip
from fan_fer.app.uploads import Limits
from fan_fer.base.errors import FanFerError, first_line
from fan_fer.recognizer import Recognizer

EXPIRES_AFTER = 300.0  # seconds without a request of the clip's page; browsers slow hidden pages down to one a minute
MOST_CLIPS = 16  # at a time, waiting, read and shown
WAITING, READING, DONE, FAILED = "waiting", "reading", "done", "failed"

log = logging.getLogger(__name__)


class DeskFull(FanFerError):
    """There are as many clips as are kept at a time."""


class _Cancelled(Exception):
    """Leaves the work on a clip that nobody wants any more."""


@dataclass
class Clip:
    """One uploaded video: its folder, and how far it has come."""

    id: str
    name: str
    folder: Path
    state: str = WAITING
    stage: str = ""
    done: int = 0
    total: int | None = None
    error: str = ""
    result: dict[str, Any] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    users: int = 0  # of its files at this moment; the last one deletes them where the clip has been thrown away
    seen: float = field(default_factory=time.monotonic)
    playable: threading.Lock = field(default_factory=threading.Lock)  # held while its copy is written


class Desk:
    """Takes clips in, has them read in turn, and throws them away.

    expires_after: seconds without :meth:`find` after which a clip is thrown away.
    """

    def __init__(self, recognizers: Sequence[Recognizer], limits: Limits, expires_after: float = EXPIRES_AFTER) -> None:
        self._recognizers = recognizers
        self.limits = limits
        self._expires_after = expires_after
        self.folder = Path(tempfile.mkdtemp(prefix="fan-fer-app-"))
        self._clips: dict[str, Clip] = {}
        self._lock = threading.Lock()
        self._queue: queue.Queue[Clip | None] = queue.Queue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name="reader", daemon=True),
            threading.Thread(target=self._sweep, name="sweeper", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def open(self, name: str) -> Clip:
        """A clip with an empty folder of its own, whose video is still to be put there. Raises DeskFull."""
        with self._lock:
            if len(self._clips) >= MOST_CLIPS:
                held = f"{MOST_CLIPS} clip{'s' if MOST_CLIPS > 1 else ''}"
                raise DeskFull(f"other pages hold {held} already, and no more fit; close one, then try again")
            clip = Clip(secrets.token_urlsafe(16), name, self.folder / secrets.token_hex(8))
            try:
                clip.folder.mkdir(parents=True)  # the system may have tidied up
            except OSError as error:
                raise FanFerError(f"{name}: cannot be stored ({error.strerror})") from None
            self._clips[clip.id] = clip
        return clip

    def submit(self, clip: Clip) -> None:
        """Puts the clip in line for reading."""
        self._queue.put(clip)

    def find(self, id: str) -> Clip | None:
        """The clip of this id, which counts as a sign of life; None where there is none (any more)."""
        with self._lock:
            clip = self._clips.get(id)
            if clip is not None:
                clip.seen = time.monotonic()
            return clip

    @contextlib.contextmanager
    def use(self, clip: Clip) -> Iterator[bool]:
        """Keeps the clip's files for as long as the block lasts; False where they are already thrown away."""
        with self._lock:
            kept = not clip.cancelled.is_set()
            clip.users += kept
        try:
            yield kept
        finally:
            with self._lock:
                clip.users -= kept
                last = kept and clip.cancelled.is_set() and clip.users == 0
            if last:
                _delete(clip.folder)

    def ahead_of(self, clip: Clip) -> int:
        """How many clips are read before this one."""
        with self._lock:
            in_line = [other for other in self._clips.values() if other.state in (WAITING, READING)]
        return in_line.index(clip) if clip in in_line else 0

    def discard(self, clip: Clip) -> None:
        """Ends the work on a clip and deletes everything of it, as soon as nobody uses its files."""
        with self._lock:
            self._clips.pop(clip.id, None)
            clip.cancelled.set()
            used = clip.users > 0
        if not used:
            _delete(clip.folder)

    def close(self) -> None:
        """Ends all work and deletes everything."""
        self._closed.set()
        with self._lock:
            clips = list(self._clips.values())
        for clip in clips:
            self.discard(clip)
        self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=10)
        _delete(self.folder)

    def _work(self) -> None:
        while (clip := self._queue.get()) is not None:
            with self.use(clip) as kept:
                if kept:
                    self._read(clip)

    def _read(self, clip: Clip) -> None:
        def report(stage: str, done: int, total: int | None) -> None:
            if clip.cancelled.is_set():
                raise _Cancelled
            clip.stage, clip.done, clip.total = stage, done, total

        clip.state = READING
        try:
            result = read_clip(clip.folder, clip.name, self._recognizers, report)
            self._finish(clip, DONE, result=result)
        except _Cancelled:
            self._finish(clip, FAILED, error=f"{clip.name}: cancelled")
        except FanFerError as error:
            self._finish(clip, FAILED, error=first_line(error))
        except Exception as error:
            # A defect, or a full disk: one clip fails, the server goes on.
            log.exception("reading a clip failed")
            self._finish(clip, FAILED, error=f"{clip.name}: could not be read ({first_line(error)})")

    def _finish(self, clip: Clip, state: str, *, result: dict[str, Any] | None = None, error: str = "") -> None:
        with self._lock:
            clip.result, clip.error, clip.state = result, error, state
        if state == FAILED:  # only its message is still wanted
            _delete(clip.folder)

    def _sweep(self) -> None:
        """Throws away the clips whose pages are gone."""
        while not self._closed.wait(min(10.0, self._expires_after / 4)):
            now = time.monotonic()
            with self._lock:
                expired = [clip for clip in self._clips.values() if now - clip.seen > self._expires_after]
            for clip in expired:
                self.discard(clip)


def _delete(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
