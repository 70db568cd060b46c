"""Folders that results are written to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fan_fer.errors import OutputError
from fan_fer.output import check_writable


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Raises OutputError where files of these names could not be written to ``folder``; makes nothing."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{folder}: {existing} is no folder; the name of a folder is wanted")
    for name in names:
        check_writable(existing / name)


def make_folder(folder: Path) -> None:
    """Makes the folder, and those that it is in. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None
