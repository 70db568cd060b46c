"""Standard output and error that are closed, full, or left early by who reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from drawn_faces import draw_face

from fan_fer import recognizer
from fan_fer.base.terminal import progress_bar, working
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, BROKEN_PIPE, DONE, SOME_FAILED

from ..command_process import PROGRAM, TESTS
from ..drawn_lists import random_weights
from ..drawn_sets import write_pictures
from ..fakes import SquareDetector, names, write_video

FULL = "standard output: cannot be written (No space left on device)"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [[(10, 10, 30)]] * 3)


@pytest.fixture
def run(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A command in this process with another standard output, or error; gives exit code and what was printed."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def run(stream: str, where: str | None, *arguments: object) -> tuple[int, str, str]:
        with open(where or os.devnull, "w") as file, monkeypatch.context() as patch:  # noqa: PTH123
            patch.setattr(sys, stream, file if where else None)
            code = main([*map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def commands(weights: Path, clip: Path, folder: Path) -> Sequence[tuple[object, ...]]:
    listing = folder / "list.csv"
    listing.write_text(f"video\n{clip}\n")
    return (
        ("predict", clip, "--weights", weights, "--json", folder / "o.json", "--csv", folder / "o.csv"),
        ("evaluate", weights, listing, "--out", folder / "scores"),
        ("weights", weights),
        ("live", clip, "--weights", weights, "--show", "terminal"),
    )


def test_closed_streams_are_no_fault(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    for command in commands(weights, clip, tmp_path):
        assert run("stdout", None, *command) == (DONE, "", ""), command
    code, out, err = run("stderr", None, "predict", clip, "--weights", weights)
    assert (code, err) == (DONE, "")
    assert "3 frames decoded" in out
    assert {"o.json", "o.csv", "scores"} <= set(names(tmp_path))


def test_full_streams_lose_nothing_else(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    for command in commands(weights, clip, tmp_path):
        assert run("stdout", "/dev/full", *command) == (BAD_INPUT, "", f"fan-fer: error: {FULL}\n"), command
    code, out, _ = run("stderr", "/dev/full", "predict", clip, "--weights", weights)
    assert code == DONE
    assert "3 frames decoded" in out
    assert {"o.json", "o.csv", "scores"} <= set(names(tmp_path))
    assert run("stderr", "/dev/full", "predict", tmp_path / "none.mp4") == (BAD_INPUT, "", "")
    some = run("stdout", "/dev/full", "predict", clip, tmp_path / "none.mp4", "--weights", weights)
    assert some == (SOME_FAILED, "", f"fan-fer: error: {tmp_path}/none.mp4: no such file\nfan-fer: error: {FULL}\n")


def test_what_is_asked_for_on_standard_output_needs_one(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    for command in (("predict", clip, "--json", "-", "--csv", tmp_path / "o.csv"), ("live", clip, "--json-lines")):
        for where, message in ((None, "standard output: is closed"), ("/dev/full", FULL)):
            code, out, err = run("stdout", where, *command, "--weights", weights)
            assert (code, out) == (BAD_INPUT, "")
            assert err.endswith(f"fan-fer: error: {message}\n")
    assert (tmp_path / "o.csv").is_file()


def test_in_processes_of_their_own(weights: Path, tmp_path: Path) -> None:
    """Without any stream, in a locale that knows no accents; unbuffered; before a reader that has gone."""
    write_pictures(tmp_path / "clip.avi", [draw_face("Happy", 1.0, 0)] * 2).rename(tmp_path / "été.avi")
    (tmp_path / "program.py").write_text(PROGRAM)
    program, command = f"'{sys.executable}' program.py", f"'{sys.executable}' -m fan_fer"
    outputs = "--json été.json --plot été.png --annotate été.mp4"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    started = [
        start(tmp_path, f"{program} predict été.avi --weights '{weights}' {outputs} <&- >&- 2>&-", **plain),
        start(tmp_path, f"{command} --version >/dev/full", PYTHONUNBUFFERED="1"),
        start(tmp_path, f"{command} predict --help >/dev/full"),
        start(tmp_path, f"{command} predict --help | true; exit $PIPESTATUS"),
        start(tmp_path, f"{command} predict 2>/dev/full"),
    ]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
    full = ("", f"fan-fer: error: {FULL}\n", BAD_INPUT)
    assert ended == [("", "", DONE), full, full, ("", "", BROKEN_PIPE), ("", "", BAD_INPUT)]
    assert {"été.json", "été.png", "été.mp4"} <= set(names(tmp_path))


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does
    with progress_bar() as bars:
        bars.advance(bars.add_task("clips", total=2))
    with working("reading"):
        pass
    assert capsys.readouterr() == ("", "")


def start(folder: Path, command: str, **options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS), **options}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(["bash", "-c", command], cwd=folder, env=environment, text=True, **pipes)
