"""Where OpenCV cannot be loaded there is one line, with what to install, on the command line and in Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fan_fer.base.opencv import _cure
from fan_fer.cli import main as command
from fan_fer.cli.outcome import BAD_INPUT

MISSING = "{}: cannot open shared object file: No such file or directory"
TRY = """
import sys
import fan_ext, fan_fer
assert "cv2" not in sys.modules and fan_fer.EMOTIONS and fan_ext.FrameAttention(4)
try:
    fan_fer.load_recognizer()
except ImportError as error:
    assert isinstance(error, fan_fer.FanFerError)
    assert error.__context__ is None or error.__suppress_context__
    print(error)
"""


@pytest.mark.parametrize(
    ("library", "packages"),
    [
        ("libGL.so.1", "libgl1 libglib2.0-0"),
        ("libgthread-2.0.so.0", "libgl1 libglib2.0-0"),
        ("libglib-2.0.so.0", "libgl1 libglib2.0-0"),
        ("libSM.so.6", "libsm6 libgl1 libglib2.0-0"),
        ("libX11.so.6", "libx11-6 libgl1 libglib2.0-0"),
    ],
)
def test_missing_libraries_of_the_system(library: str, packages: str) -> None:
    assert _cure(ImportError(MISSING.format(library))) == (
        f"OpenCV cannot be loaded, {library} is missing: apt-get install {packages}; "
        "or, without windows, pip uninstall opencv-python and pip install opencv-python-headless"
    )


def test_other_faults_of_the_installation() -> None:
    missing = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    assert _cure(missing).startswith("OpenCV is not installed: pip install opencv-python, or opencv-python-headless")
    for text in ("numpy.core.multiarray failed to import", "libgomp.so.1: cannot allocate memory in static TLS block"):
        assert _cure(ImportError(text + "\nmore")).startswith(
            f"OpenCV cannot be loaded ({text}); install it again: pip"
        )


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python where cv2 is a module of this code."""
    (folder / "cv2.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments", [("predict", "clip.mp4"), ("live", "0"), ("prepare", "a", "b", "--layout", "afew")]
)
def test_the_command_says_it_in_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, f"raise ImportError({MISSING.format('libGL.so.1')!r})", "-m", "fan_fer", *arguments)
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr == f"fan-fer: error: {_cure(ImportError(MISSING.format('libGL.so.1')))}\n"


def test_python_says_it_where_opencv_is_needed(tmp_path: Path) -> None:
    done = run(tmp_path, "", "-c", TRY)
    assert done.stderr == ""
    assert done.stdout.startswith(
        "OpenCV is damaged, cv2 is empty; install it again: pip install --force-reinstall open"
    )


def test_other_libraries_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def load(_: object) -> int:
        raise ImportError("libavcodec.so.62: cannot open shared object file")

    monkeypatch.setattr(command.weights, "run", load)
    assert command.main(["weights"]) == BAD_INPUT
    told = "fan-fer: error: a library cannot be loaded: libavcodec.so.62: cannot open shared object file\n"
    assert capsys.readouterr().err == told
