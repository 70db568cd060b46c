"""How CSV files are read and written, whoever made them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from fan_fer.base.errors import DataError, OutputError
from fan_fer.base.files import read_file, write_text
from fan_fer.base.names import name_key, quoted, strip_hidden, tidy
from fan_fer.base.texts import decode_text

_MARKS = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class CsvFile:
    """What :func:`read_table` found.

    columns: their names as the header spells them.
    rows: the number of the line that a row begins in, and its cells by what the names of their columns are compared by.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_table(
    path: Path, needed: Sequence[str], wanted: str, others: Sequence[str] = (), exact: bool = False
) -> CsvFile:
    """The rows of a CSV file that has the columns ``needed``, in whatever spelling, and perhaps more.

    In UTF-8 or UTF-16; with commas, or with semicolons or tabs where the header has no comma. Names and cells lose the
    blanks around them, and rows without any content are passed over.

    wanted: ends an error's message, such as "video[,label,...] is wanted".
    others: columns that are read where they exist. In these, and in those that are needed, no cell may reach over
        several rows, as it does where a quote is not closed.
    exact: for files of :func:`write_table` with the same argument: cells keep their blanks, bytes that are no text go
        through, and a row must have all its cells.
    Raises DataError that names the line, and the column where there is one.
    """
    text = _read_text(path, wanted, exact)
    delimiter = _delimiter(text)
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    names: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    width = end = 0
    try:
        while (cells := next(reader, None)) is not None:
            line, end = end + 1, reader.line_num
            cells = cells if exact and header else [strip_hidden(cell) for cell in cells]
            if not any(cells):
                continue
            if not header:
                width = len(cells)
                while not cells[-1]:  # what spreadsheets leave of columns that were emptied
                    cells.pop()
                names = _check_header(path, line, cells, needed, wanted)
                header += map(tidy, cells)
                continue
            if len(cells) > width or any(cells[len(names) :]):
                mark = _MARKS[delimiter]
                raise DataError(f"{path}: line {line} has more cells than the header; quote cells that hold a {mark}")
            missing = len(names) - len(cells)
            if exact and missing > 0:
                raise DataError(f"{path}: line {line} has {len(cells)} of {len(names)} cells; {wanted}")
            row = dict(zip(names, cells + [""] * missing, strict=False))
            for name in (*needed, *others):
                if delimiter in row.get(name, "") and _breaks(row[name]):
                    opened = line + sum(map(_breaks, cells[: names.index(name)]))
                    what = f"column {name}: the quote that opens here is closed {_breaks(row[name])} lines below"
                    raise DataError(f"{path}: line {opened}: {what}; {wanted}")
            rows.append((line, row))
    except csv.Error as error:
        line, column, fault = _fault("".join(lines[end:]), delimiter)
        where = f"column {header[column]}: " if column < len(header) else ""
        raise DataError(f"{path}: line {end + line}: {where}{fault or error}; {wanted}") from None
    if not header:
        raise DataError(f"{path}: has no column {', '.join(needed)} (it is empty); {wanted}")
    return CsvFile(tuple(header), tuple(rows))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]], exact: bool = False) -> None:
    """Writes a CSV file in UTF-8, whole or not at all, empty cells for None and for what a row lacks.

    exact: bytes that are no text, as file names may hold them, go through; else they become backslash escapes.
    Raises OutputError, also for a number that is not finite.
    """
    lines = _Lines()
    # Python quotes the marks that may end a line only where they do.
    writer = csv.DictWriter(lines, columns, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        broken = [name for name, cell in row.items() if isinstance(cell, float) and not math.isfinite(cell)]
        if broken:
            raise OutputError(f"{path}: not written, as a number in column {broken[0]} is not finite")
        writer.writerow(row)
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
    try:
        text = decode_text(content, "surrogateescape" if exact else "strict")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: not a CSV file in UTF-8 (line {line}: {error.reason}); {wanted}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}: not a CSV file in UTF-8 (line {line} holds a NUL byte); {wanted}")
    return text


def _delimiter(text: str) -> str:
    """A comma, where the header has none a semicolon or a tab, as spreadsheets write them in many countries."""
    header = next(re.finditer(r"[^\r\n]*[^\s][^\r\n]*", text), [""])[0]
    names = re.sub(r'"[^"]*"', "", header)
    return next((mark for mark in _MARKS if mark in names), ",")


def _fault(text: str, delimiter: str) -> tuple[int, int, str]:
    """Of the first cell of a text that no CSV file holds: its line from 1, its column from 0, and what is wrong."""
    line, column = 1, 0
    cell = re.compile(
        rf'(?P<quoted>"[^"]*(?:""[^"]*)*(?P<closed>"?))?(?P<rest>[^{delimiter}\r\n]*)(?P<end>\r\n|.|$)', re.S
    )
    place = 0
    while place < len(text):
        found = cell.match(text, place)
        assert found is not None
        if found["quoted"] and not found["closed"]:
            return line, column, "the quote that opens here is not closed"
        if found["quoted"] and found["rest"]:
            return line, column, "the quote that opens here is closed within a cell"
        if len(found[0]) > csv.field_size_limit():
            return line, column, f"a cell of {len(found[0])} characters; at most {csv.field_size_limit()} are read"
        line += _breaks(found[0])
        column = column + 1 if found["end"] == delimiter else 0
        place = found.end()
    return 1, len(text), ""


def _breaks(cell: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", cell))


def _check_header(path: Path, line: int, header: Sequence[str], needed: Sequence[str], wanted: str) -> list[str]:
    """What the names are compared by."""
    names = [name_key(name) for name in header]
    for name in dict.fromkeys(names):
        same = [spelling for spelling, key in zip(header, names, strict=True) if key == name]
        if len(same) > 1:
            what = f"the columns {quoted(same, ' and ')}, which are one" if name else "two columns without a name"
            raise DataError(f"{path}: line {line} has {what}; {wanted}")
    missing = [name for name in needed if name not in names]
    if missing:
        have = shorten(", ".join(header), 200, placeholder=" ...")
        raise DataError(f"{path}: line {line} has no column {', '.join(missing)} (its columns are {have}); {wanted}")
    return names
