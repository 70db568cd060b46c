"""`fan-fer live`: its lines of JSON, its panel and window, how it keeps up with a source, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_faces import draw_face

import fan_fer
from fan_fer import recognizer
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BROKEN_PIPE, DONE
from fan_fer.output import window
from fan_fer.video import sources
from fan_fer.video.frame import Frame

from ..command_process import start_command
from ..drawn_lists import random_weights
from ..drawn_sets import write_pictures
from ..fakes import SquareDetector, assert_one_error, picture, write_video

FACE = [(10, 10, 30)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    faces = [[(10 + i, 10, 30)] for i in range(6)]
    return write_video(tmp_path / "clip.mp4", [[], [], *faces, *[[]] * 8, *faces])


class Camera:
    """A camera of red squares that has `count` pictures, one every `step` seconds, and waits for nobody."""

    fps = frame_count = duration = None
    consecutive = live = True
    count, step = 100, 0.004

    def __init__(self, number: int) -> None:
        self.name = f"camera {number}"
        self.warnings: list[str] = []
        self.damaged: dict[int, str] = {}
        self.given = 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            self.given += 1
            yield Frame(index, index * self.step, picture(FACE))
            time.sleep(self.step)


class SlowDetector(SquareDetector):
    def detect(self, image: np.ndarray) -> list:
        time.sleep(0.02)
        return super().detect(image)


@pytest.fixture
def live(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer live` in this process, red squares being faces; gives exit code, stdout, stderr."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())
    monkeypatch.setattr(sources, "Camera", Camera)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["live", *map(str, arguments), "--weights", str(weights)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


# Lines of JSON


def test_the_lines_are_what_the_recognizer_streams(live, clip: Path, weights: Path) -> None:
    code, out, err = live(clip, "--json-lines", "--window", 0.2)
    assert (code, err) == (DONE, "")
    lines = [json.loads(line) for line in out.splitlines()]
    streamed = list(fan_fer.load_recognizer(weights, detector=SquareDetector()).stream(clip, window=0.2))
    assert len(lines) == len(streamed) == 22
    for line, (frame, prediction) in zip(lines, streamed, strict=True):
        assert (line["index"], line["time"]) == (frame.index, round(frame.time, 6))
        if prediction is None:
            assert (line["label"], line["probabilities"], line["weight"], line["box"]) == (None, None, None, None)
            assert (line["weights"], line["frames_with_face"], line["segment"]) == ([], 0, None)
            continue
        last = prediction.frames[-1]
        assert line["label"] == prediction.label
        now = prediction.segments[-1]
        assert line["segment"]["label"] == now.label
        assert (line["segment"]["first"], line["segment"]["start"]) == (now.first, round(now.start, 6))
        assert line["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
        assert line["box"] == (last.box and pytest.approx(last.box, abs=0.01))
        assert line["weight"] == (last.weight and pytest.approx(last.weight, rel=1e-6))
        assert [index for index, _ in line["weights"]] == [seen.index for seen in prediction.frames]
        assert line["weights"][-1] == [frame.index, line["weight"]]
        assert sum(weight is not None for _, weight in line["weights"]) == line["frames_with_face"] > 0
    told = [line["label"] is not None for line in lines]
    assert (told[0], told[10], told[15], told[21]) == (False, True, False, True)
    assert lines[10]["weight"] is None
    assert lines[10]["label"] is not None


def test_it_abstains(live, clip: Path) -> None:
    lines = [json.loads(line) for line in live(clip, "--json-lines", "--abstain", 1)[1].splitlines()]
    assert {line["label"] for line in lines} == {None}
    assert lines[-1]["segment"]["label"] is None
    assert lines[-1]["probabilities"]


def test_the_last_line_is_what_predict_says(live, clip: Path, weights: Path) -> None:
    last = json.loads(live(clip, "--json-lines", "--window", 60)[1].splitlines()[-1])
    whole = fan_fer.load_recognizer(weights, detector=SquareDetector()).predict(clip)
    assert last["probabilities"] == pytest.approx(whole.probabilities, abs=1e-3)
    assert last["weights"] == [
        [frame.index, frame.weight and pytest.approx(frame.weight, abs=1e-3)] for frame in whole.frames
    ]


def test_it_ends_by_itself(live, clip: Path) -> None:
    _, out, _ = live(clip, "--json-lines", "--seconds", 0.2)
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0, 1, 2, 3, 4]


# Keeping up


def test_a_camera_quicker_than_the_reading_is_not_fallen_behind(live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SlowDetector())
    code, out, err = live("--show", "terminal", "--window", 0.1)
    assert (code, err) == (DONE, "fan-fer live: camera 0 has ended\n")
    assert "camera 0" in out
    assert 20 <= int(re.search(r"(\d+) dropped", out)[1]) <= 98
    assert re.search(r"[1-9]\d+ ms late", out)


def test_lines_of_a_camera_jump_over_what_was_left_out(live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SlowDetector())
    _, out, _ = live(2, "--json-lines")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["index"] == 99
    assert 2 <= len(lines) <= 80
    assert [index for index, _ in lines[-1]["weights"]] == [line["index"] for line in lines]


def test_a_video_plays_at_its_own_pace_and_loses_nothing(live, clip: Path) -> None:
    start = time.monotonic()
    code, out, err = live(clip)
    assert (code, err) == (DONE, "")
    assert time.monotonic() - start >= 21 / 25
    assert " 0 dropped" in out
    assert "● face" in out
    assert out.endswith("╯\n")


# The window


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """A display that keeps the pictures it is given, and gives the keys in `keys` and what is visible in `visible`."""
    display: dict[str, list] = {"pictures": [], "keys": [], "visible": []}
    monkeypatch.setattr(window, "check_window", lambda: None)
    for name in ("namedWindow", "resizeWindow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, image: display["pictures"].append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: display["keys"].pop(0) if display["keys"] else -1)
    visible = lambda *_: display["visible"].pop(0) if display["visible"] else 1.0  # noqa: E731
    monkeypatch.setattr(cv2, "getWindowProperty", visible)
    return display


def test_the_window_shows_box_and_emotion(live, tmp_path: Path, shown: dict[str, list]) -> None:
    path = write_video(tmp_path / "clip.mp4", [[(150, 100, 80)], [(150, 100, 80)], []], size=(320, 240))
    assert live(path, "--window", 0.05) == (DONE, "", "")
    face, _, empty = shown["pictures"]
    assert face.shape == (240, 320, 3)
    orange = np.array([0x36, 0x86, 0xEF])
    assert np.abs(face[140, 148:152].astype(int) - orange).max(axis=-1).min() < 40
    assert np.abs(empty[140, 148:152].astype(int) - orange).max(axis=-1).min() > 60
    assert np.ptp(face[:20, :60]) > 100  # what is said of the last seconds


@pytest.mark.parametrize("end", [{"keys": [-1, ord("q")]}, {"keys": [-1, 27]}, {"visible": [1.0, 0.0]}])
def test_a_key_or_closing_the_window_ends_it(live, clip: Path, shown: dict[str, list], end: dict[str, list]) -> None:
    shown.update(end)
    assert live(clip, "--show", "window") == (DONE, "", "")
    assert len(shown["pictures"]) == 2


def test_where_qt_would_end_the_process_there_is_one_line(live, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":no-such-display")
    told = "window: (OpenCV cannot open one on this display|opencv-python-headless has none); --show terminal"
    assert_one_error(live(clip, "--show", "window"), told)


def test_the_opencv_without_windows_is_named(live, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    assert_one_error(
        live(clip, "--show", "window"), "window: opencv-python-headless has none; --show terminal, or open"
    )


# How it ends


def test_ctrl_c_is_a_good_end(live, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(self: Camera) -> Iterator[Frame]:
        for index in range(10**6):
            if index == 20:
                os.kill(os.getpid(), signal.SIGINT)
            yield Frame(index, index / 25, picture(FACE))
            time.sleep(0.01)

    monkeypatch.setattr(Camera, "__iter__", endless)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        code, out, err = live("--json-lines")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, err) == (DONE, "")
    assert all(json.loads(line) for line in out.splitlines())
    assert not [thread for thread in threading.enumerate() if thread.name == "decoder"]


def test_ctrl_c_leaves_the_terminal_in_order(tmp_path: Path, weights: Path) -> None:
    path = write_pictures(tmp_path / "clip.avi", [draw_face("Happy", 1, 0)] * 400)
    terminal, theirs = pty.openpty()
    process = start_command(tmp_path, ["live", str(path), "--weights", str(weights)], stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    while b"dropped" not in printed:
        printed += os.read(terminal, 65536)
    os.killpg(process.pid, signal.SIGINT)
    try:
        while more := os.read(terminal, 65536):
            printed += more
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert process.wait(timeout=60) == DONE
    assert b"Traceback" not in printed
    assert printed.rindex(b"\x1b[?25h") > printed.rindex(b"\x1b[?25l")  # the cursor is seen again


def test_a_reader_that_leaves_early(tmp_path: Path, weights: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [FACE] * 300)
    command = f'"{sys.executable}" -m fan_fer live "{clip}" --weights "{weights}" --json-lines | head -n 1'
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")
    assert json.loads(done.stdout)["index"] == 0


# What is wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text.mp4"], r"text\.mp4: "),
        (["gone.mp4"], r"gone\.mp4: no such file"),
        (["http://127.0.0.1:9/live"], r"http://127\.0\.0\.1:9/live: cannot be opened"),
        (["clip.mp4", "--window", "0"], r"--window 0: seconds, above 0, are wanted"),
        (["clip.mp4", "--window", "nan"], r"--window nan: seconds"),
        (["clip.mp4", "--abstain", "2"], r"--abstain 2: a probability, 0 to 1, is wanted"),
        (["clip.mp4", "--seconds", "-1"], r"--seconds -1: seconds"),
        (["clip.mp4", "--show", "window"], r"window: there is no display"),
        (["clip.mp4", "--device", "tpu"], r"tpu"),
    ],
)
def test_errors(live, clip: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    (clip.parent / "text.mp4").write_text("hello\n" * 100)
    monkeypatch.chdir(clip.parent)
    assert_one_error(live(*arguments), message)


@pytest.mark.parametrize("number", [93, 2**40])
def test_a_camera_that_is_not_there(live, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.undo()
    code = f"camera {number}: no such camera, or another program is using it"
    assert_one_error(live(number), code + "(; there (is|are) .*)?$")


def test_a_camera_without_a_picture(live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "count", 0)
    assert_one_error(live("--json-lines"), "camera 0: gives no picture")
