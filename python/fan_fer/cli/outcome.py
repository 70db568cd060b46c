"""How a command ends: its exit code, and one line for what went wrong."""

from __future__ import annotations

from fan_fer.base.errors import one_line
from fan_fer.base.streams import note

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def complain(message: object) -> None:
    """Prints an error, one line, on standard error."""
    note(f"fan-fer: error: {one_line(message)}")


def warn(message: object) -> None:
    """Prints a warning, one line, on standard error."""
    note(f"fan-fer: warning: {one_line(message)}")
