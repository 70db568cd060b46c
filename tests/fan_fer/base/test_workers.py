"""Tasks in processes: what comes back, deaths, hangs, and processes that cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from fan_fer.base import workers
from fan_fer.base.errors import FanFerError, LibraryError, OutputError
from fan_fer.base.workers import KeepDying, Lost, run_tasks

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # which processes cannot import


def start(act: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """What begins a process that acts."""

    def begin() -> Callable[[Any, Any], Any]:
        return act

    return begin


def act(task: str, report: Callable[..., None]) -> str:
    import os
    import signal
    import time

    if task == "slow":
        for step in range(8):
            report("step", step)
            time.sleep(0.2)
    elif task == "hang":
        time.sleep(60)
    elif task in ("SIGSEGV", "SIGKILL", "SIGABRT"):
        os.kill(os.getpid(), getattr(signal, task))
    elif task == "exit":
        os._exit(3)
    elif task == "full":
        from fan_fer.base.errors import OutputError

        raise OutputError("the disk is full")
    elif task == "foreign":

        class Foreign(Exception):
            pass

        raise Foreign("one\ntwo")
    return task.upper()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_and_progress(count: int) -> None:
    told: list[tuple[Any, ...]] = []
    tasks = ["a", "slow", "b", "c"]
    done = list(run_tasks(start(act), tasks, count, progress=lambda *content: told.append(content)))
    assert sorted(done) == [(task, task.upper()) for task in sorted(tasks)]
    if count < 2:
        assert [task for task, _ in done] == tasks
    assert told[0] == ("slow", "step", 0)
    assert told == sorted(told)


def test_a_process_that_dies_or_hangs_costs_its_task_alone() -> None:
    tasks = ["a", "SIGSEGV", "hang", "SIGKILL", "b", "exit", "slow", "c"]
    begin = time.monotonic()
    done = dict(run_tasks(start(act), tasks, 2, time_limit=1.0))
    assert time.monotonic() - begin < 15
    assert {task: result for task, result in done.items() if not isinstance(result, Lost)} == {
        task: task.upper()
        for task in ("a", "b", "slow", "c")  # slow takes longer than the limit, and gets on
    }
    assert {task: result.why for task, result in done.items() if isinstance(result, Lost)} == {
        "SIGSEGV": "its process died (SIGSEGV), 2 times",
        "SIGKILL": "its process died (SIGKILL), 2 times; perhaps memory ran out",
        "exit": "its process died (exit code 3), 2 times",
        "hang": "got no further for 1 seconds, the time limit, and was given up",
    }


def test_tasks_may_come_as_they_are_wanted() -> None:
    begun: list[str] = []

    def tasks() -> Iterator[str]:
        for name in ("a", "SIGKILL", "c"):
            begun.append(name)
            yield name

    results = run_tasks(start(act), tasks(), 1)
    assert begun == []
    assert next(results) == ("a", "A")
    assert begun == ["a"]
    task, lost = next(results)
    assert (task, isinstance(lost, Lost)) == ("SIGKILL", True)
    assert begun == ["a", "SIGKILL"]
    assert list(results) == [("c", "C")]


def test_another_thread_can_stop_it_whatever_is_being_done() -> None:
    stop = threading.Event()
    threading.Timer(3.0, stop.set).start()
    begin = time.monotonic()
    assert list(run_tasks(start(act), ["hang", "a"], 1, stop=stop)) == []
    assert time.monotonic() - begin < 30


def test_a_death_that_does_not_come_again_costs_nothing(tmp_path: Path) -> None:
    def once(mark: Path, task: str, report: object) -> str:
        import os

        if task == "b" and not mark.exists():
            mark.touch()
            os._exit(1)
        return task

    done = list(run_tasks(start(partial(once, tmp_path / "died")), ["a", "b", "c"], 1))
    assert done == [("a", "a"), ("b", "b"), ("c", "c")]


def test_processes_that_keep_dying_are_not_the_tasks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "DEATHS", 3)
    results = run_tasks(start(act), ["a", "exit", "exit"], 1)
    assert [next(results)[0], next(results)[0]] == ["a", "exit"]
    with pytest.raises(KeepDying, match=r"^worker processes keep dying \(exit code 3\), the last one .* on exit$"):
        next(results)


def test_faults_of_the_work_are_raised_here() -> None:
    with pytest.raises(OutputError, match=r"^the disk is full$"):
        list(run_tasks(start(act), ["a", "full"], 1))
    with pytest.raises(FanFerError, match=r"^Foreign: one$"):
        list(run_tasks(start(act), ["foreign"], 1))


def test_a_process_that_cannot_start_is_told_from_one_that_died() -> None:
    def die() -> None:
        import os

        os._exit(4)

    with pytest.raises(FanFerError, match=r"^worker processes cannot start \(exit code 4\); what stands above"):
        list(run_tasks(die, ["a"], 2))
    with pytest.raises(FanFerError, match=r"^worker processes cannot be told their work \(.*a detector that pickles"):
        list(run_tasks(partial(print, threading.Lock()), ["a"], 1))


def test_no_process_is_left() -> None:
    def tell(task: str, report: object) -> int:
        import os

        return os.getpid()

    with closing(run_tasks(start(tell), ["a", "b"], 1)) as results:
        _, process = next(results)
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, signal.SIGTERM)


SCRIPT = """
from fan_fer.base.workers import run_tasks
class Mine:
    def __call__(self):
        return lambda task, report: task * 2
print(sorted(run_tasks(Mine(), [1, 2, 3], 2)))
"""


@pytest.mark.parametrize("way", ["file", "standard input", "-c"])
def test_scripts_need_no_guard(tmp_path: Path, way: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = {"file": [script], "standard input": ["-"], "-c": ["-c", SCRIPT]}[way]
    text = SCRIPT if way == "standard input" else None
    done = subprocess.run([sys.executable, *arguments], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(1, 2), (2, 4), (3, 6)]\n", "")


def test_without_cloudpickle_a_module_serves_and_the_script_itself_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(TypeError, match="not supported between"):  # of max([3, 4], report), in the process
        next(run_tasks(partial(partial, max), [[3, 4]], workers=1))
    own = type("Own", (), {"__module__": "__main__", "__call__": lambda self: act})
    monkeypatch.setattr(sys.modules["__main__"], "Own", own, raising=False)
    with pytest.raises(LibraryError, match="do not know what the script that runs defines: put"):
        next(run_tasks(own(), ["a"], workers=1))
