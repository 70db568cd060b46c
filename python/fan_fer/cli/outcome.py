"""How a command ends: its exit code, and one line for what went wrong."""

from __future__ import annotations

import warnings
from typing import Any

from fan_fer.base.errors import FanFerWarning, one_line
from fan_fer.base.streams import note

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

_format_warning = warnings.formatwarning


def complain(message: object) -> None:
    """Prints an error, one line, on standard error."""
    note(f"fan-fer: error: {one_line(message)}")


def warn(message: object) -> None:
    """Prints a warning, one line, on standard error."""
    note(f"fan-fer: warning: {one_line(message)}")


def show_warnings() -> None:
    """From now on this process prints warnings of the package as it does errors, and others as Python does."""
    warnings.formatwarning = _in_one_line  # type: ignore[assignment]


def _in_one_line(message: Warning | str, category: type[Warning], *place: Any) -> str:
    if issubclass(category, FanFerWarning):
        return f"fan-fer: warning: {one_line(message)}\n"
    return _format_warning(message, category, *place)
