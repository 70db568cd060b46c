"""The results so far, in a file beside the table: a JSON line with the settings, then one for every video done."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from fan_fer.base.checkpoint import check_settings
from fan_fer.base.errors import DataError, OutputError
from fan_fer.base.files import lock, reason, with_ending
from fan_fer.base.texts import parse_json, to_json
from fan_fer.many.work import Result

FORMAT_VERSION = 1


class Journal:
    """The results of an earlier run with the same settings, and those that are added.

    A line is written when its video is done. A kill can tear the last line only, which is then taken off.

    Raises DataError where the file is something else, damaged, made with other settings or in use; OutputError where it
    cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.results: dict[str, Result] = {}  # by the name of the video
        try:
            self._file = path.open("a+b")
        except (OSError, ValueError) as error:
            raise OutputError(f"{path}: cannot be written ({reason(error)})") from None
        try:
            if not lock(self._file):
                raise DataError(f"{path}: another process is at work on it; wait for it to end")
            self._begin({"format": FORMAT_VERSION, **settings})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, video: str, result: Result) -> None:
        """Raises OutputError."""
        self.results[video] = result
        self._append({"video": video, "result": result})

    def _begin(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            if not _line(settings).startswith(content):
                raise self._foreign()
            self._file.truncate(0)
            self._append(settings)
            return
        first, *lines = whole.splitlines()
        try:
            found = parse_json(first)
            if not isinstance(found, dict) or found.get("format") != FORMAT_VERSION:
                raise self._foreign()
            if not lines and found != settings:  # of a job that could not begin: nothing depends on its settings
                self._file.truncate(0)
                self._append(settings)
                return
            check_settings(self.path, found, settings)
            for line in lines:
                entry = parse_json(line)
                self.results[entry["video"]] = entry["result"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._foreign() from None
        self._file.truncate(len(whole))

    def _foreign(self) -> DataError:
        return DataError(f"{self.path}: holds no results of fan-fer, or is damaged; delete it, or use another --out")

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._file.write(_line(entry))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from None


def journal_path(table: Path) -> Path:
    """Where the journal of a table lies."""
    return table.with_name(with_ending(table.name, ".progress"))


def relative_folder(folder: str, table: Path) -> str:
    """The folder as the table sees it: the same where both were moved, another one for a list in another folder."""
    return os.path.relpath(folder, table.parent.absolute())


def _line(entry: dict[str, Any]) -> bytes:
    return to_json(entry).encode() + b"\n"
