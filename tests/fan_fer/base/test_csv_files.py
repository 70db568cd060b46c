"""CSV files as spreadsheets, scripts and people make them, and every refusal in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fan_fer.base.csv_files import read_table, write_table
from fan_fer.base.errors import DataError

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
    ],
)
def test_all_mean_the_same(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    table = read_table(path, ("video",), WANTED)
    assert table.columns == ("Video", "LABEL")
    assert [row for _, row in table.rows] == [{"video": "a.mp4", "label": "Happy"}, {"video": "b.mp4", "label": ""}]


def test_cells_may_hold_anything_in_quotes_and_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('index;video\n1;"a;b, ""c"".mp4"\n\n2;"two\nlines"\n3;é.mp4\n', "utf-8")
    rows = read_table(path, ("video",), WANTED).rows
    assert [(line, row["video"]) for line, row in rows] == [(2, 'a;b, "c".mp4'), (5, "two\nlines"), (6, "é.mp4")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column video (it is empty); video[,label,...] is wanted"),
        (b"\n , \n", "has no column video (it is empty); video[,label,...] is wanted"),
        (b"path;Label\na;b\n", "has no column video (its columns are path, Label); video[,label,...] is wanted"),
        (b"video,Label, label\n", "has two columns Label; video[,label,...] is wanted"),
        (b"video,,label,,x\n", "has two columns without a name; video[,label,...] is wanted"),
        (b"video,label\na.mp4\nb,c.mp4,Sad\n", "line 3 has more cells than the header; quote cells that hold a comma"),
        (b"video\tlabel\na\tb\tc\n", "line 2 has more cells than the header; quote cells that hold a tab"),
        (b"video,label,,\na.mp4,Sad,,x\n", "line 2 has more cells than the header; quote cells that hold a comma"),
        (b'video\n"a.mp4\nb.mp4\n', "line 3: unexpected end of data; video[,label,...] is wanted"),
        (b"video\na\nb\xe9\n", "not a CSV file in UTF-8 (line 3: invalid continuation byte); video[,label,...] is"),
        (b"video\na\0b\n", "not a CSV file in UTF-8 (it holds a NUL byte); video[,label,...] is wanted"),
        (b"\xff\xfev\0i\0d", "not a CSV file in UTF-8 (line 1: truncated data); video[,label,...] is wanted"),
        (b"video\n" + b"x" * 200_000, "line 2: field larger than field limit (131072); video[,label,...] is wanted"),
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
    path.write_text("a,b\nx\n")
    with pytest.raises(DataError, match=r"line 2 has 1 of 2 cells; damaged"):
        read_table(path, ("a", "b"), "damaged", exact=True)
