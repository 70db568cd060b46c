"""How a command ends: its exit code, and one line for what went wrong."""

from __future__ import annotations

import sys

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def complain(message: object) -> None:
    """Prints an error, one line, on standard error."""
    print(f"fan-fer: error: {message}", file=sys.stderr)
