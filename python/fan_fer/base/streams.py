"""Standard input, output and error, which may be closed or full: nobody's work is lost for want of a reader."""

from __future__ import annotations

import os
import sys
from typing import IO

from fan_fer.base.errors import OutputError

_fault: OSError | None = None  # of standard output


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
    write(sys.stderr, f"{line}\n")


def write_output(text: str) -> None:
    """What was asked for on standard output, at once. Raises OutputError where that is closed or takes nothing."""
    if sys.stdout is None or sys.stdout.closed or getattr(sys.stdout, "name", "") == os.devnull:
        raise OutputError("standard output: is closed")
    write(sys.stdout, text)
    check_output()


def write(stream: IO[str] | None, text: str) -> None:
    """Writes at once. Where that fails nothing more is written, and :func:`check_output` tells so."""
    global _fault
    if stream is None or stream.closed:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), stream.fileno())  # for what is still held back
        if stream is sys.stdout:
            _fault = error


def check_output() -> None:
    """Raises OutputError, or BrokenPipeError, where something could not be written on standard output."""
    global _fault
    write(sys.stderr, "")
    write(sys.stdout, "")  # what is held back, which Python would write at its exit
    fault, _fault = _fault, None
    if isinstance(fault, BrokenPipeError):
        raise fault
    if fault is not None:
        raise OutputError(f"standard output: cannot be written ({fault.strerror})")
