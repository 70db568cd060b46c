"""Standard input, output and error, which may be closed or full: nobody's work is lost for want of a reader."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO

from fan_fer.base.errors import OutputError


def open_streams() -> None:
    """Standard input, output and error for a process that was started without: they lead nowhere.

    Else the next file that is opened gets the number of one of them, and what a library prints goes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def note(line: str) -> None:
    """A line on standard error, where that takes it."""
    with suppress(OSError):
        write(sys.stderr, f"{line}\n")


def write_output(text: str) -> None:
    """What was asked for on standard output. Raises OutputError where that is closed or takes nothing."""
    if sys.stdout is None or getattr(sys.stdout, "name", "") == os.devnull:
        raise OutputError("standard output: is closed")
    try:
        write(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop(sys.stdout)
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from None


def flush_streams() -> None:
    """Writes what is held back, before Python does so at its exit. Raises OSError where standard output fails."""
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            _drop(stream)
            if stream is sys.stdout:
                raise


def write(stream: IO[str] | None, text: str) -> None:
    """At once. Raises OSError."""
    if stream is not None:
        stream.write(text)
        stream.flush()


def _drop(stream: IO[str]) -> None:
    """What could not be written, and all that follows, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
