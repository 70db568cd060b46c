"""Errors a user can mend. Each message is one line: what was wrong, where, and what is wanted."""

from __future__ import annotations

import unicodedata


class FanFerError(Exception):
    """Base of all errors that the command line reports in one line, without a traceback."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class VideoError(FanFerError):
    """A video that cannot be opened or read, or that shows no face."""


class DetectorError(FanFerError):
    """A face detector that is unknown or cannot be loaded."""


class WeightsError(FanFerError):
    """A weights file that is damaged, incomplete, or made for another network."""


class OutputError(FanFerError):
    """A result that cannot be written where it was asked for."""


class DataError(FanFerError):
    """A data set, or a file that describes one, that is not laid out as wanted."""


class TrainingError(FanFerError):
    """A training run that cannot begin or go on as asked."""


class ExportError(FanFerError):
    """A network that cannot be exported here, or whose exported form does not compute what torch does."""


class LibraryError(FanFerError, ImportError):
    """A library that is not installed, or cannot be loaded here."""


class FanFerWarning(UserWarning):
    """What a user can mend and does not stop the work; the command line reports it in one line."""


def first_line(text: object) -> str:
    """The first line of a docstring or an error's message, or the error's name where it has none."""
    return (str(text).strip() or type(text).__name__).splitlines()[0]


def fault_line(error: Exception) -> str:
    """An exception that nobody expected, in one line."""
    return f"{type(error).__name__}: {first_line(error)}"


def one_line(text: object) -> str:
    """A text that may hold names of files, as it is shown: backslash escapes stand for line breaks, other control
    characters, and bytes that are no text."""
    text = "".join(_escape(letter) for letter in str(text))
    # Where the system's encoding is not UTF-8, Python takes letters of a file's name for bytes.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _escape(letter: str) -> str:
    byte = "\udc80" <= letter <= "\udcff"  # as Python holds the bytes of names
    hidden = not byte and unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
    return letter.encode("unicode_escape").decode() if hidden else letter
