"""The rule that a file appears whole or not at all, locks, and what is asked before work begins: can it be written?"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fan_fer.base.errors import OutputError


def check_writable(path: Path) -> None:
    """Raises OutputError where :func:`atomic_write` could not put ``path``; leaves nothing behind."""
    target = _resolve(path)
    try:
        if target.is_dir():
            raise OutputError(f"{path}: is a folder; the name of a file is wanted")
        if _is_special(target):
            return
        if not target.parent.is_dir():
            raise OutputError(f"{path}: there is no folder {target.parent}")
        if target.exists() and not os.access(target, os.W_OK):
            raise OutputError(f"{path}: is write-protected")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot write in {target.parent} ({error.strerror})") from None


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


def lock(file: int | IO[Any]) -> bool:
    """Keeps other processes from locking the file or folder until it is closed; False where one has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary name in the folder of ``path`` to write to; renames it when the block ends well.

    A failure leaves no trace, and an older file as it was. Pipes and devices are written to directly. Raises
    OutputError in place of OSError.
    """
    target = _resolve(path)
    temporary = target if _is_special(target) else target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        if temporary != target:
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary != target:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Writes a text in UTF-8, with ``errors`` as for str.encode. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors))


def _resolve(path: Path) -> Path:
    """Through symbolic links, so that a link is kept and its target replaced."""
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    """A pipe or a device: renaming a file over /dev/null would be a bad joke."""
    return path.exists() and not path.is_file() and not path.is_dir()
