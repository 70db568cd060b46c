"""``fan-fer`` in a process of its own, with the detector of drawn faces, to be interrupted or killed at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
PROGRAM = """
import sys
from drawn_faces import DrawnFaces
from fan_fer.cli import main as cli
if __name__ == "__main__":
    arguments = cli._parser().parse_args(sys.argv[1:])
    arguments.detector = DrawnFaces(delay=0.03)
    cli._parser = lambda: type("Parser", (), {"parse_args": lambda self, argv: arguments})()
    sys.exit(cli.main())
"""


def start_command(folder: Path, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Starts ``fan-fer`` as the leader of a process group; its program lies in ``folder``."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(program), *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
        text=True,
        **{**pipes, **options},
    )


def end_command(process: subprocess.Popen[str], end: signal.Signals) -> tuple[str, str]:
    """Kills the process alone, or interrupts its group as a terminal does; what it printed."""
    if end == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, end)
    return process.communicate(timeout=60)


def wait_for_workers(process: subprocess.Popen[str], deadline: float) -> None:
    """Until no process of the group is left, at most to this time of ``time.monotonic``."""
    while living(process.pid):
        assert time.monotonic() < deadline, living(process.pid)
        time.sleep(0.05)


def living(group: int) -> list[str]:
    """Command lines of a process group's processes that have not ended."""
    alive = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, pgrp = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                alive.append((process / "cmdline").read_text())
        except OSError:
            continue
    return alive
