"""Tasks done in processes of their own, one of which may die or hang without taking the others along."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from fan_fer.base.errors import FanFerError, LibraryError, fault_line, first_line
from fan_fer.base.processes import end_with_parent, interrupts_held

ATTEMPTS = 2  # at a task that its process does not survive
DEATHS = 6  # in a row, after which it is not the tasks' fault
TIME_LIMIT = 300.0  # seconds without any progress after which a process hangs; each frame of a video is progress
CHECKED = 1.0  # seconds between two looks at who hangs
TOLD = 0.1  # seconds between two reports of a process
LEAVE = 5.0  # seconds for a process to end; one that waits for a dead network drive never does

Report = Callable[..., None]
Start = Callable[[], Callable[[Any, Report], Any]]


@dataclass(frozen=True)
class Lost:
    """Stands for the result of a task whose process died or hung, and says so."""

    why: str


class KeepDying(FanFerError):
    """Process after process dies: perhaps memory has run out, and the tasks are not to blame."""


def check_time_limit(seconds: float) -> None:
    """Raises FanFerError for a time limit that cannot be."""
    if not seconds > 0:
        raise FanFerError(f"time limit {seconds:g}: seconds above 0 are wanted")


def run_tasks(
    start: Start,
    tasks: Iterable[Any],
    workers: int,
    time_limit: float = TIME_LIMIT,
    progress: Callable[..., None] | None = None,
    stop: threading.Event | None = None,
) -> Generator[tuple[Any, Any], None, None]:
    """Does the tasks in ``workers`` processes; gives each with its result, or :class:`Lost`, as they are done.

    tasks: each is asked for when a process is free to do it. Where there is one process, asking may wait.
    workers: 0: this process does them, where nothing is lost and nothing limited.
    start: is called once in each process and gives what does a task there: a function of the task and of ``report``,
        which it calls as it gets on. Tasks, results and start pickle; start may come from the script that runs.
    time_limit: seconds without a report after which a process is ended.
    progress: is called here with the task and what was reported.
    stop: set by another thread, ends the processes within a second, whatever they do.

    A process that dies is replaced, and its task tried once more. Raises what ``start`` or a task raises in its
    process, FanFerError where processes cannot be started, and KeepDying. Processes end with the generator, at once,
    and with this process.
    """
    if not workers:
        do = start()
        for task in tasks:
            yield task, do(task, partial(progress or _silent, task))
        return
    new, again = ((task, 1) for task in tasks), deque[tuple[Any, int]]()
    crew = [_Worker(start) for _ in range(min(workers, len(tasks)) if isinstance(tasks, Sized) else workers)]
    deaths, more = 0, bool(crew)
    try:
        while True:
            for worker in crew:
                if worker.ready and not worker.busy:
                    given = again.popleft() if again else next(new, None)
                    if given is None:
                        more = False
                    else:
                        worker.give(*given)
            if (stop and stop.is_set()) or not (more or again or any(worker.busy for worker in crew)):
                return
            wait([worker.pipe for worker in crew if worker.busy or not worker.ready], CHECKED)
            for place, worker in enumerate(crew):
                task, attempt = worker.task, worker.attempt
                try:
                    for result in worker.messages(progress):
                        deaths = 0
                        yield task, result
                except _Gone:
                    how = worker.end()
                    if not worker.ready:
                        raise FanFerError(
                            f"worker processes cannot start ({how}); what stands above says why"
                        ) from None
                    crew[place] = _Worker(start)
                    if not worker.busy:
                        continue
                    deaths += 1
                    if deaths == DEATHS:
                        raise KeepDying(
                            f"worker processes keep dying ({how}), the last one while at work on {task}"
                        ) from None
                    if attempt < ATTEMPTS:
                        again.appendleft((task, attempt + 1))
                    else:
                        memory = "; perhaps memory ran out" if how == "SIGKILL" else ""
                        yield task, Lost(f"its process died ({how}), {attempt} times{memory}")
                else:
                    if worker.busy and time.monotonic() - worker.heard > time_limit:
                        worker.process.kill()
                        worker.end()
                        crew[place] = _Worker(start)
                        yield task, Lost(f"got no further for {time_limit:g} seconds, the time limit, and was given up")
    finally:
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.end()


@contextmanager
def results_kept() -> Iterator[None]:
    """For work that goes on where it was: says so where processes keep dying."""
    try:
        yield
    except KeepDying as error:
        raise FanFerError(
            f"{error}; perhaps memory ran out. What is done is kept: the same command goes on, and needs less memory "
            "with fewer --workers"
        ) from None


class _Gone(Exception):
    """A process has closed its pipe."""


class _Worker:
    """A process, seen from here."""

    def __init__(self, start: Start) -> None:
        context = multiprocessing.get_context("spawn")  # OpenCV and torch do not survive a fork
        self.pipe, other = context.Pipe()
        self.ready = self.busy = False  # has begun; has a task
        self.task: Any = None
        self.attempt = 0
        self.heard = 0.0  # when it last got on
        try:
            pickled = _pickled(start)
        except FanFerError:
            raise
        except Exception as error:  # whatever an object's own methods raise
            raise FanFerError(
                f"worker processes cannot be told their work ({first_line(error)}); a detector that pickles is wanted"
            ) from None
        self.process = context.Process(target=_work, args=(other, pickled))
        with interrupts_held(), _main_hidden():
            self.process.start()
        other.close()

    def give(self, task: Any, attempt: int) -> None:
        self.task, self.attempt, self.busy, self.heard = task, attempt, True, time.monotonic()
        with suppress(OSError):  # it died; reading tells
            self.pipe.send(task)

    def messages(self, progress: Callable[..., None] | None) -> Iterator[Any]:
        """Takes in what it has said so far; gives the result where it is done. Raises _Gone where it died."""
        while True:
            try:
                if not self.pipe.poll():
                    return
                kind, content = self.pipe.recv()
            except (EOFError, OSError):
                raise _Gone from None
            self.heard = time.monotonic()
            if kind == "ready":
                self.ready = True
            elif kind == "report":
                if progress is not None:
                    progress(self.task, *content)
            elif kind == "error":
                raise content
            else:
                self.busy = False
                yield content

    def end(self) -> str:
        """Waits for the end of a process that is ending, and says how it came."""
        self.process.join(LEAVE)
        code = self.process.exitcode
        self.process.kill()
        self.pipe.close()
        if code is None or code >= 0:
            return f"exit code {code}"
        return next((name.name for name in signal.Signals if name == -code), f"signal {-code}")


def _pickled(start: Start) -> bytes:
    """With cloudpickle, if it is there, by value what is the script's own: a detector need not be of a module that can
    be imported. Raises LibraryError where it would have to be there."""
    try:
        import cloudpickle
    except ModuleNotFoundError:
        pickled = pickle.dumps(start)
        if b"__main__" in pickled:
            raise LibraryError(
                "worker processes do not know what the script that runs defines: put the detector into a module of its "
                "own, or pip install cloudpickle"
            ) from None
        return pickled
    return bytes(cloudpickle.dumps(start))


def _work(pipe: Connection, pickled: bytes) -> None:
    """What a process does: the tasks that it is told, one after the other."""
    end_with_parent()
    told = 0.0

    def tell(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except OSError:  # nobody listens any more
            os._exit(1)

    def report(*content: Any) -> None:
        nonlocal told
        if time.monotonic() - told >= TOLD:
            told = time.monotonic()
            tell("report", content)

    try:
        do = pickle.loads(pickled)()
        tell("ready", None)
        while True:
            try:
                task = pipe.recv()
            except (EOFError, OSError):
                return
            tell("done", do(task, report))
    except Exception as error:
        tell("error", _sendable(error))


def _silent(*_: object) -> None:
    pass


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return FanFerError(fault_line(error))
    return error


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Processes that are started meanwhile do not run the user's script first, as they do by default: it may lack the
    usual guard, or come from standard input."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
