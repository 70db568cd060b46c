"""How CSV files are read and written, whoever made them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fan_fer.base.errors import DataError
from fan_fer.base.files import read_file, write_text


@dataclass(frozen=True)
class CsvFile:
    """What :func:`read_table` found.

    columns: their names as the header spells them.
    rows: the number of the line that a row ends in, and its cells by the names of their columns in lower case.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_table(path: Path, needed: Sequence[str], wanted: str, exact: bool = False) -> CsvFile:
    """The rows of a CSV file that has the columns ``needed``, in whatever case, and perhaps others.

    In UTF-8, or UTF-16 with a byte order mark; with commas, or with semicolons or tabs where the header has no comma.
    Names and cells lose the blanks around them, and rows without any content are passed over.

    wanted: ends an error's message, such as "video[,label,...] is wanted".
    exact: for files of :func:`write_table` with the same argument: cells keep their blanks, bytes that are no text go
        through, and a row must have all its cells.
    Raises DataError.
    """
    text = _read_text(path, wanted, exact)
    delimiter = _delimiter(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next((header for line in lines if any(header := [cell.strip() for cell in line])), [])
        width = len(header)
        while header and not header[-1]:  # what spreadsheets leave of columns that were emptied
            header.pop()
        names = _check_header(path, header, needed, wanted)
        rows = []
        for cells in lines:
            if not exact:
                cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if len(cells) > width or any(cells[len(names) :]):
                mark = {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]
                raise DataError(
                    f"{path}: line {lines.line_num} has more cells than the header; quote cells that hold a {mark}"
                )
            missing = len(names) - len(cells)
            if exact and missing > 0:
                raise DataError(f"{path}: line {lines.line_num} has {len(cells)} of {len(names)} cells; {wanted}")
            rows.append((lines.line_num, dict(zip(names, cells + [""] * missing, strict=False))))
    except csv.Error as error:
        raise DataError(f"{path}: line {lines.line_num}: {error}; {wanted}") from None
    return CsvFile(tuple(header), tuple(rows))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]], exact: bool = False) -> None:
    """Writes a CSV file in UTF-8, whole or not at all, empty cells for None and for what a row lacks.

    exact: bytes that are no text, as file names may hold them, go through; else they become backslash escapes.
    Raises OutputError.
    """
    lines = _Lines()
    # Python quotes the marks that may end a line only where they do.
    writer = csv.DictWriter(lines, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, "".join(lines), errors="surrogateescape" if exact else "backslashreplace")


class _Lines(list[str]):
    """The lines that a CSV writer gives, ended as is usual here."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _read_text(path: Path, wanted: str, exact: bool) -> str:
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {wanted}") from None
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig", "surrogateescape" if exact else "strict")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: not a CSV file in UTF-8 (line {line}: {error.reason}); {wanted}") from None
    if "\0" in text:
        raise DataError(f"{path}: not a CSV file in UTF-8 (it holds a NUL byte); {wanted}")
    return text


def _delimiter(text: str) -> str:
    """A comma, where the header has none a semicolon or a tab, as spreadsheets write them in many countries."""
    header = next(re.finditer(r"[^\r\n]*[^\s][^\r\n]*", text), [""])[0]
    return next((mark for mark in ",;\t" if mark in header), ",")


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str], wanted: str) -> list[str]:
    """The names in lower case."""
    names = [name.lower() for name in header]
    for first, second in pairwise(sorted(names)):
        if first == second:
            raise DataError(f"{path}: has two columns {header[names.index(first)] or 'without a name'}; {wanted}")
    missing = [name for name in needed if name not in names]
    if missing:
        have = f"its columns are {', '.join(header)}" if header else "it is empty"
        raise DataError(f"{path}: has no column {', '.join(missing)} ({have}); {wanted}")
    return names
