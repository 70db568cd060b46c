"""CSV files as spreadsheets, scripts and people make them, and every refusal in one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fan_fer.base.csv_files import read_table, write_table
from fan_fer.base.errors import DataError, OutputError

WANTED = "video[,label,...] is wanted"


@pytest.mark.parametrize(
    "content",
    [
        b"Video,LABEL\na.mp4,Happy\nb.mp4,\n",
        b"\xef\xbb\xbf Video , LABEL \n a.mp4 ,\tHappy\nb.mp4\n",
        b"\r\n\r\nVideo;LABEL\r\n\r\na.mp4;Happy\r\n;\r\nb.mp4;\r\n",
        b"Video\tLABEL\ra.mp4\tHappy\rb.mp4\t\r",
        b"Video,LABEL,,\na.mp4,Happy,,\nb.mp4,,,\n",
        b'"Video","LABEL"\n"a.mp4","Happy"\n"b.mp4",""',
        "Video\tLABEL\na.mp4\tHappy\nb.mp4\t\n".encode("utf-16"),
        b"\xfe\xff" + "Video;LABEL\na.mp4;Happy\nb.mp4;\n".encode("utf-16-be"),
        "Video,LABEL\na.mp4,Happy\nb.mp4,\n".encode("utf-16-le"),
        "Video,LABEL\na.mp4,Happy\nb.mp4,\n".encode("utf-32"),
        "\u200bVi\u200bdeo\u00a0,\ufeffLABEL\n\u202aa.mp4,Happy\u200b\nb.mp4,\u00a0\n".encode(),
        b'"Video";"LABEL";"a, b"\na.mp4;Happy;x\nb.mp4;;\n',
    ],
)
def test_all_mean_the_same(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    table = read_table(path, ("video",), WANTED)
    assert table.columns[:2] == ("Video", "LABEL")
    found = [(row["video"], row["label"]) for _, row in table.rows]
    assert found == [("a.mp4", "Happy"), ("b.mp4", "")]


@pytest.mark.parametrize(
    "name",
    [
        " label",
        "Label",
        "LABEL",
        '"label"',
        "label\u00a0",
        "\u200blabel",
        "\uff4c\uff41\uff42\uff45\uff4c",
        "la\uff22el",
    ],
)
def test_a_column_has_one_name_in_all_its_spellings(tmp_path: Path, name: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"video,{name}\na.mp4,Happy\n", "utf-8")
    assert read_table(path, ("video", "label"), WANTED).rows[0][1]["label"] == "Happy"
    path.write_text(f"video,label,{name}\na.mp4,Happy,Sad\n", "utf-8")
    with pytest.raises(DataError, match=r'list\.csv: line 1 has the columns "label" and ".*", which are one; video'):
        read_table(path, ("video",), WANTED)


def test_cells_may_hold_anything_in_quotes_and_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('index;video\n1;"a;b, ""c"".mp4"\n\n2;"two\nlines"\n3;é.mp4\n', "utf-8")
    rows = read_table(path, ("video",), WANTED).rows
    assert [(line, row["video"]) for line, row in rows] == [(2, 'a;b, "c".mp4'), (4, "two\nlines"), (6, "é.mp4")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column video (it is empty); video[,label,...] is wanted"),
        (b"\n , \n", "has no column video (it is empty); video[,label,...] is wanted"),
        (b"path;Label\na;b\n", "line 1 has no column video (its columns are path, Label); video[,label,...] is wanted"),
        (b"\na.mp4\nb.mp4\n", "line 2 has no column video (its columns are a.mp4); video[,label,...] is wanted"),
        (b"# mine\nvideo\na.mp4\n", "line 1 has no column video (its columns are # mine); video[,label,...] is"),
        (
            b"video,label,label\n",
            'line 1 has the columns "label" and "label", which are one; video[,label,...] is wanted',
        ),
        ("video,é,e\u0301\n".encode(), r'line 1 has the columns "é" and "e\u0301", which are one'),
        (b"video,,label,,x\n", "line 1 has two columns without a name; video[,label,...] is wanted"),
        (b"video,label\na.mp4\nb,c.mp4,Sad\n", "line 3 has more cells than the header; quote cells that hold a comma"),
        (b"video\tlabel\na\tb\tc\n", "line 2 has more cells than the header; quote cells that hold a tab"),
        (b"video,label,,\na.mp4,Sad,,x\n", "line 2 has more cells than the header; quote cells that hold a comma"),
        (b'video\n"a.mp4\nb.mp4\n', "line 2: column video: the quote that opens here is not closed; video[,label,"),
        (b'"video\na.mp4\n', "line 1: the quote that opens here is not closed; video[,label,...] is wanted"),
        (
            b'note,video,label\n"two\nlines",a,"Happy\nx,b,Sad\n',
            "line 3: column label: the quote that opens here is not closed",
        ),
        (
            b'video,label\na,"Sad\nb,Sad\n"c","Sad"\n',
            "line 2: column label: the quote that opens here is closed within a cell; video[,label,...] is wanted",
        ),
        (b'video\n"a" b.mp4\n', "line 2: column video: the quote that opens here is closed within a cell"),
        (
            b'video,label\nx,Sad\n"a,Sad\nb,Sad\nc,Sad"\n',
            "line 3: column video: the quote that opens here is closed 2 lines below; video[,label,...] is wanted",
        ),
        (b"video\na\nb\xe9\n", "not a CSV file in UTF-8 (line 3: invalid continuation byte); video[,label,...] is"),
        (b"video\na\0b\n", "not a CSV file in UTF-8 (line 2 holds a NUL byte); video[,label,...] is wanted"),
        (b"\0\0\0\x20ftypisom" + bytes(50), "not a CSV file in UTF-8 (line 1: code point not in range"),
        (b"\xff\xfev\0i\0d", "not a CSV file in UTF-8 (line 1: truncated data); video[,label,...] is wanted"),
        (
            b"video,label\na," + b"x" * 200_000,
            "line 2: column label: a cell of 200000 characters; at most 131072 are read; video[,label,...] is wanted",
        ),
        (b'video\na\n"' + b"x,\n" * 99_999, "line 3: column video: the quote that opens here is not closed"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as refusal:
        read_table(path, ("video",), WANTED)
    assert str(refusal.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", "No such file or directory"),
        (".", "Is a directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"cannot be read \({message}\); video\[,label,...\] is wanted$"):
        read_table(tmp_path / name, ("video",), WANTED)


@pytest.mark.parametrize("exact", [False, True])
def test_a_row_survives_whatever_is_in_a_name(tmp_path: Path, exact: bool) -> None:
    names = ["a\nb", "a\rb", "a\r\nb", "a\u2028b", 'a"b', "a,b;c\td"]
    write_table(tmp_path / "out.csv", ("video", "n"), [{"video": name, "n": 1} for name in names], exact=exact)
    rows = read_table(tmp_path / "out.csv", ("video",), WANTED, exact=exact).rows
    assert [row for _, row in rows] == [{"video": name, "n": "1"} for name in names]


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = [{"a": " x, ", "b": '"'}, {"a": None, "b": "bad \udce9"}]
    write_table(path, ("a", "b"), rows)
    assert path.read_bytes() == b'a,b\n" x, ",""""\n,bad \\udce9\n'
    write_table(path, ("a", "b"), rows, exact=True)
    assert path.read_bytes().endswith(b"\n,bad \xe9\n")
    exact = read_table(path, ("a", "b"), "", exact=True)
    assert [row for _, row in exact.rows] == [{"a": " x, ", "b": '"'}, {"a": "", "b": "bad \udce9"}]
    for broken in (math.nan, -math.inf):
        with pytest.raises(OutputError, match=r"out\.csv: not written, as a number in column b is not finite$"):
            write_table(path, ("a", "b"), [{"a": 1.0, "b": "nan"}, {"b": broken}])
    path.write_text("a,b\nx\n")
    with pytest.raises(DataError, match=r"line 2 has 1 of 2 cells; damaged"):
        read_table(path, ("a", "b"), "damaged", exact=True)
