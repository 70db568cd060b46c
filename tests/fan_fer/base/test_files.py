"""Whatever a path is, and however long a name."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path

import pytest

from fan_fer.base import files
from fan_fer.base.errors import FanFerError, OutputError, one_line

from ..fakes import names
from ..odd_paths import FOREIGN, LONGEST, make_unreachable

PACKAGE = Path(files.__file__).parents[1]
RAISING = ("is_file", "is_dir", "exists", "resolve", "samefile", "is_symlink", "is_fifo", "glob", "rglob")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / name for name in make_unreachable(tmp_path)), tmp_path / "a\0b", Path()]


def test_no_question_about_a_path_raises(paths: list[Path]) -> None:
    for path in paths:
        assert not files.is_file(path) or str(path) == "/proc/self/mem", path
        assert files.is_folder(path) == (path.name == "folder.mp4" or path == Path()), path
        assert isinstance(files.exists(path), bool)
        assert isinstance(files.real_path(path), Path)
        assert not files.is_same(path, paths[0])


def test_no_other_module_asks_in_ways_that_raise() -> None:
    """For some paths, in some version of Python. Its own folder a module may look through."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        if path != Path(files.__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RAISING
    ]
    assert [
        line for line in found if not line.endswith(("_FOLDER.glob('*.toml')", "Path('/dev').glob('video*')"))
    ] == []


def test_what_is_no_file_is_an_error_of_the_system(paths: list[Path]) -> None:
    for path in paths:
        with pytest.raises(OSError, match=r"^\[Errno \d+\]") as refusal, files.open_file(path) as file:
            file.read(1)
        assert refusal.value.strerror, path


def test_a_pipe_is_read_while_something_writes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert files.read_file(tmp_path / "pipe") == b""
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)

    def write() -> None:
        os.write(writer, b"late")
        os.close(writer)

    later = threading.Timer(0.1, write)
    later.start()
    os.close(reader)
    assert files.read_file(tmp_path / "pipe") == b"late"
    later.join()


def test_outputs_that_cannot_be_are_known_beforehand(paths: list[Path], tmp_path: Path) -> None:
    before = names(tmp_path)
    possible = ("dangling.mp4", "pipe.mp4", "socket.mp4", "/dev/zero", "/dev/full")
    for path in paths:
        if not str(path).endswith(possible):
            with pytest.raises(OutputError):
                files.check_writable(path)
            with pytest.raises(OutputError):
                files.write_text(path, "")
        if path.name not in ("", "folder.mp4"):
            with pytest.raises(OutputError):
                files.check_folder(path, ("out.csv",))
            with pytest.raises(OutputError):
                files.make_folder(path)
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", ["y" * LONGEST, "é" * 127, FOREIGN, ".json"])
def test_any_name_that_can_be_is_written(tmp_path: Path, name: str) -> None:
    files.check_writable(tmp_path / name)
    files.write_text(tmp_path / name, "new")
    assert names(tmp_path) == [name]


def test_names_with_an_ending_fit() -> None:
    assert files.with_ending("clip", ".png") == "clip.png"
    long = [files.with_ending(name, ".progress") for name in ("é" * 127, "a" * 255, "a" * 254 + "b", "\udcff" * 255)]
    assert len(set(long)) == 4
    for name in long:
        assert len(os.fsencode(name)) <= LONGEST
        assert name.endswith(".progress")
    long[0].encode()


@pytest.mark.parametrize(
    ("given", "distinct"),
    [
        (["clip", "clip", "clip"], ["clip", "clip-2", "clip-3"]),
        (["clip", "clip", "clip-2"], ["clip", "clip-3", "clip-2"]),
        (["clip-2", "clip", "clip", "clip-2"], ["clip-2", "clip", "clip-3", "clip-2-2"]),
        (["Clip", "clip", "CLIP-2"], ["Clip", "clip-3", "CLIP-2"]),
        (["caf\u00e9", "cafe\u0301"], ["caf\u00e9", "cafe\u0301-2"]),
        ([FOREIGN, FOREIGN], [FOREIGN, f"{FOREIGN}-2"]),
    ],
)
def test_no_two_names_meet(given: list[str], distinct: list[str]) -> None:
    assert files.distinct_names(given, ".png") == [f"{name}.png" for name in distinct]


def test_many_long_names_of_the_same_beginning() -> None:
    made = files.distinct_names(["表" * 85] * 2000 + ["表" * 84 + "x"], ".png")
    assert len({name.casefold() for name in made}) == 2001
    assert max(len(os.fsencode(name)) for name in made) <= LONGEST


def test_libraries_get_text(tmp_path: Path) -> None:
    (tmp_path / FOREIGN).mkdir()
    for path in (tmp_path / "é", tmp_path / FOREIGN / "x"):
        path.write_text("content")
        with files.text_path(path) as name:
            assert Path(str(name).encode().decode()).read_text() == "content"
            assert (name == path) == (path.name == "é")


def test_messages_are_one_line() -> None:
    assert one_line("a\nb\r\t\x1b[31m\u2028.mp4") == r"a\nb\r\t\x1b[31m\u2028.mp4"
    assert one_line(FOREIGN) == r"z\xc4\xe3 \xff"
    assert one_line("\udcc3\udca9 表\u3000\ud800") == "é 表\u3000\\ud800"
    assert str(FanFerError("a\nb: no such file")) == r"a\nb: no such file"
    assert files.readable(FOREIGN) == r"z\xc4\xe3 \xff"
