"""The rules of paths: what a user names may be anything, a file appears whole or not at all, and names fit.

``Path.is_file``, ``exists``, ``resolve`` and their like raise for some paths, in each version of Python for others. No
other module calls them: :func:`is_file`, :func:`is_folder`, :func:`exists` and :func:`real_path` never raise.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from fan_fer.base.errors import OutputError

LONGEST_NAME = 255  # bytes, on every usual file system


def is_file(path: str | os.PathLike[str]) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | os.PathLike[str]) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: str | os.PathLike[str]) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def real_path(path: str | os.PathLike[str]) -> Path:
    """Absolute and without symbolic links, as far as they lead somewhere: the same for two names of one file."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(path)


def is_same(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both are names of one file or folder that is there."""
    try:
        return os.path.samefile(path, other)  # noqa: PTH121
    except (OSError, ValueError):
        return False


def reason(error: OSError | ValueError) -> str:
    """Why a path could not be used, for a message."""
    return str(getattr(error, "strerror", None) or error)


def open_file(path: str | os.PathLike[str], pipe: bool = False) -> BufferedReader:
    """Opens a file to read its bytes. Raises OSError with a ``strerror``, whatever the path is.

    pipe: whether a pipe will do, from which something writes already.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode) and not (pipe and stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "Is not a file", os.fspath(path))
        # Without waiting for somebody to write into a pipe.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
        os.set_blocking(file.fileno(), True)
        return file
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, or of a pipe, as :func:`open_file` opens them. Raises OSError."""
    with open_file(path, pipe=True) as file:
        return file.read()


@contextmanager
def text_path(path: Path) -> Iterator[Path]:
    """While the block runs, a path to the same file or folder that is a text in UTF-8: libraries take no other.

    It is the path itself, or a link to it.
    """
    try:
        is_text = str(path).encode() == os.fsencode(path)
    except UnicodeEncodeError:
        is_text = False
    if is_text:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(real_path(path))
        yield link


def readable(name: str) -> str:
    """The text of a file's name; backslash escapes stand for bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def with_ending(name: str, ending: str) -> str:
    """A name with an ending; where that is longer than names can be, the name is cut and told apart by a hash."""
    if len(os.fsencode(name + ending)) <= LONGEST_NAME:
        return name + ending
    ending = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{ending}"
    while len(os.fsencode(name + ending)) > LONGEST_NAME:
        name = name[:-1]
    return name + ending


def distinct_names(names: Sequence[str], ending: str) -> list[str]:
    """The names with an ending, such that no two meet, on no file system: the second "clip" becomes "clip-2"."""
    taken = {_key(name) for name in names}
    used: Counter[str] = Counter()  # how often, and the number of the last
    distinct = []
    for name in names:
        key = _key(name)
        used[key] += 1
        while used[key] > 1 and f"{key}-{used[key]}" in taken:
            used[key] += 1
        own = name if used[key] == 1 else f"{name}-{used[key]}"
        taken.add(_key(own))
        distinct.append(with_ending(own, ending))
    return distinct


def _key(name: str) -> str:
    """Equal for names that are one on some file system: those that differ in case, or in how accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def file_name(text: str) -> str:
    """The name of a file that a text in UTF-8 gives, whatever the encoding of names in this process is."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def check_writable(path: Path) -> None:
    """Raises OutputError where :func:`atomic_write` could not put ``path``; leaves nothing behind."""
    target = real_path(path)
    try:
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise OutputError(f"{path}: is a folder; the name of a file is wanted")
        if mode is not None and not stat.S_ISREG(mode):
            return
        if not is_folder(target.parent):
            raise OutputError(f"{path}: there is no folder {target.parent}")
        if mode is not None and not os.access(target, os.W_OK):
            raise OutputError(f"{path}: is write-protected")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot write in {target.parent} ({reason(error)})") from None


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Raises OutputError where files of these names could not be written to ``folder``; makes nothing."""
    existing = folder
    try:
        while _mode(existing) is None and not os.path.lexists(existing) and existing != existing.parent:
            existing = existing.parent
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder}: cannot be made ({reason(error)})") from None
    if not is_folder(existing):
        raise OutputError(f"{folder}: {existing} is no folder; the name of a folder is wanted")
    for name in names:
        check_writable(existing / name)


def make_folder(folder: Path) -> None:
    """Makes the folder, and those that it is in. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder}: cannot be made ({reason(error)})") from None


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
    try:
        mode = _mode(path)
        # Renaming a file over /dev/null would be a bad joke.
        special = mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
        target = path if special else real_path(path)  # a link is kept, and what it leads to is replaced
        temporary = target if special else target.with_name(f".{secrets.token_hex(8)}.partial")
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from None
    try:
        yield temporary
        if not special:
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)})") from None
    finally:
        if not special:
            with suppress(OSError, ValueError):
                temporary.unlink()


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Writes a text in UTF-8, with ``errors`` as for str.encode. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors))


def _mode(path: Path) -> int | None:
    """Of a path that is there. Raises OSError or ValueError for one that cannot be."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
