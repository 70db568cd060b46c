"""Errors a user can mend. Each message is one line: what was wrong, where, and what is wanted."""

from __future__ import annotations


class FanFerError(Exception):
    """Base of all errors that the command line reports in one line, without a traceback.

    What a user calls a file or a column may hold line breaks; a message does not.
    """

    def __init__(self, message: object) -> None:
        super().__init__("?".join(str(message).splitlines()))


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
