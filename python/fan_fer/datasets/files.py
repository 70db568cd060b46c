"""The files that describe a prepared set: set.json, clips.csv with a row per clip, frames.csv with a row per frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fan_fer.base.csv_files import read_table, write_table
from fan_fer.base.errors import DataError
from fan_fer.base.files import is_file, read_file
from fan_fer.base.texts import parse_json, write_json
from fan_fer.faces.face import LANDMARKS

FORMAT_VERSION = 1

SETTINGS_FILE, CLIPS_FILE, FRAMES_FILE, CROPS_FOLDER = "set.json", "clips.csv", "frames.csv", "crops"

OK, NO_FACE, UNREADABLE = "ok", "no face", "unreadable"  # the status of a clip, and of a frame

CLIP_COLUMNS = ("clip", "label", "split", "subject", "fold", "source", "frames", "faces", "status", "message")
FACE_COLUMNS = ("x", "y", "width", "height", *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"), "score")
FRAME_COLUMNS = ("clip", "frame", "time", "source", "status", *FACE_COLUMNS)


@dataclass(frozen=True)
class SetSettings:
    """What set.json holds.

    classes: in the order that networks use.
    size: side of the crops in pixels.
    template: where alignment puts the five landmarks, as fractions of a crop.
    detector: name of the face detector.
    folds: how many there are, None without folds.
    without_label: how many clips of the source were skipped because it gives them no label.
    complete: whether all clips are done and the tables are written.
    """

    layout: str
    classes: tuple[str, ...]
    size: int
    template: tuple[tuple[float, float], ...]
    detector: str
    folds: int | None
    without_label: int
    complete: bool


def write_settings(folder: Path, settings: SetSettings) -> None:
    """Raises OutputError."""
    content = {"format_version": FORMAT_VERSION, **asdict(settings)}
    # A file system may hold names that are not text; they go through as they are.
    write_json(folder / SETTINGS_FILE, content, indent=2, errors="surrogateescape", ensure_ascii=False)


def read_settings(folder: Path) -> SetSettings:
    """Raises DataError where the folder is no prepared set, or one of another version."""
    path = folder / SETTINGS_FILE
    if not is_file(path):
        raise DataError(f"{folder}: is no prepared set (it has no {SETTINGS_FILE}); fan-fer prepare makes one")
    try:
        content = parse_json(read_file(path), "surrogateescape")
        version = content.pop("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{path}: has format version {version}; this fan-fer reads {FORMAT_VERSION}; prepare again")
        return _parse_settings(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"{path}: damaged; prepare the set again, into another folder") from None


def _parse_settings(content: dict[str, Any]) -> SetSettings:
    template = tuple((float(x), float(y)) for x, y in content.pop("template"))
    classes = tuple(str(name) for name in content.pop("classes"))
    settings = SetSettings(**content, template=template, classes=classes)
    numbers = (settings.size, settings.without_label, settings.folds or 0)
    if (
        len(template) != 5
        or not all(isinstance(number, int) for number in numbers)
        or not isinstance(settings.complete, bool)
    ):
        raise ValueError("wrong types")
    return settings


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A CSV with these columns, empty cells for None. Raises OutputError."""
    write_table(path, columns, rows, exact=True)


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV that :func:`write_rows` made. Raises DataError."""
    table = read_table(path, (), "the prepared set is damaged: prepare it again", exact=True)
    if table.columns != tuple(columns):
        raise DataError(f"{path}: the columns are not {', '.join(columns)}; the prepared set is damaged")
    return [cells for _, cells in table.rows]
