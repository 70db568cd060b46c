"""Detectors that installed packages bring, by their names: the example of the documentation, and broken ones."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fan_fer.base.errors import DetectorError, FanFerError
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.mtcnn import MTCNN
from fan_fer.many.work import make_work
from fan_fer.video.decoding import Video

from ..drawn_lists import random_weights

PAGE = Path(__file__).parents[3] / "docs" / "detectors.md"
BROKEN = """\
from fan_fer.base.errors import FanFerError

def refuses(argument, device):
    raise FanFerError(f"detector refuses: {argument!r} on {device} is not to its taste")

def fails(argument, device):
    raise KeyError("its\\nmodel")

def gives_nothing(argument, device):
    return object()

def gives_none(argument, device):
    pass

class Named:
    name = 3
    def detect(self, image):
        return []

def named(argument, device):
    return Named()
"""


def install(folder: Path, name: str, module: str, source: str, points: str) -> None:
    """As pip leaves a package."""
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[fan_fer.detectors]\n{points}")
    importlib.invalidate_caches()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: the page's example, and a broken one."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    text = PAGE.read_text()
    module = re.search(r"```python\n(.+?)```", text, re.DOTALL)
    point = re.search(r'^\[project\.entry-points\."fan_fer\.detectors"\]\n(\w+) = "(.+)"$', text, re.MULTILINE)
    assert module
    assert point
    install(folder, "largest_face", "largest_face", module[1], f"{point[1]} = {point[2]}\n")
    names = ("refuses", "fails", "gives_nothing", "gives_none", "named")
    points = "".join(f"{name} = broken:{name}\n" for name in names) + "gone = broken:gone\nno_module = nowhere:make\n"
    install(folder, "broken", "broken", BROKEN, points + "mtcnn = broken:fails\nyunet = broken:fails\n")
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    monkeypatch.delitem(sys.modules, "largest_face", raising=False)
    return folder


def test_the_page_s_example(packages: Path, clips: Path) -> None:
    group = Video(clips / "multi_face.jpg").read([0])[0]
    everyone = load_detector("mtcnn").detect(group)
    assert len(everyone) == 5
    detector = load_detector("largest")
    assert detector.name == "largest"
    (face,) = detector.detect(group)
    assert face.box[2] * face.box[3] == max(face.box[2] * face.box[3] for face in everyone)
    assert load_detector("largest:1.01").detect(group) == []


def test_on_the_command_line(packages: Path, clips: Path, tmp_path: Path) -> None:
    weights = random_weights(tmp_path / "random.safetensors")
    command = [sys.executable, "-m", "fan_fer", "predict", str(clips / "single_face.jpg"), "--weights", str(weights)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), *filter(None, sys.path)])}

    def run(spec: str) -> subprocess.CompletedProcess[str]:
        arguments = [*command, "--json", "-", "--detector", spec]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)

    done = run("largest:0.5")
    assert done.returncode == 0, done.stderr
    assert '"detector": "largest"' in done.stdout
    for spec, message in (
        ("largest:much", r"detector largest:much: largest_face:make fails \(ValueError: could not convert string to"),
        ("smallest", r"detector 'smallest' is unknown; wanted: mtcnn, yunet:FILE .*, largest"),
    ):
        done = run(spec)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.match(f"fan-fer: error: {message}", done.stderr)
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gone", r"^detector gone: broken:gone fails \(AttributeError: .*\); wanted: mtcnn, .*, fails, .*, largest"),
        (
            "no_module",
            r"^detector no_module: nowhere:make fails \(ModuleNotFoundError: No module named 'nowhere'\)",
        ),
        ("fails:x", r"^detector fails:x: broken:fails fails \(KeyError: 'its\\nmodel'\); wanted: mtcnn"),
        ("gives_nothing", r"^detector gives_nothing: broken:gives_nothing fails \(AttributeError: .*\); wanted: mtcnn"),
        ("gives_none", r"^detector gives_none: broken:gives_none fails \(AttributeError: .*\); wanted: mtcnn"),
        ("named", r"^detector named: broken:named gives no detector, with a name and detect; wanted: mtcnn"),
        ("largest:", r"^detector 'largest:' is unknown; wanted: mtcnn"),
        ("eyes", r"^detector 'eyes' is unknown; wanted: mtcnn, yunet:FILE .*, scrfd:FILE .*, fails, .*, largest, "),
    ],
)
def test_broken_and_unknown_ones_are_named(packages: Path, spec: str, message: str) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        load_detector(spec)
    assert "\n" not in str(caught.value)


def test_what_a_package_says_to_the_user_is_shown_as_it_is(packages: Path) -> None:
    with pytest.raises(FanFerError, match=r"^detector refuses: 'a:b' on cuda:1 is not to its taste$"):
        load_detector("refuses:a:b", "cuda:1")
    with pytest.raises(FanFerError, match=r"^detector refuses: '' on cpu is"):
        load_detector("refuses")


def test_our_names_cannot_be_taken(packages: Path) -> None:
    assert isinstance(load_detector("mtcnn"), MTCNN)


def test_an_argument_that_is_a_file_is_found_from_other_folders(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights(tmp_path / "random.safetensors")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eyes.bin").touch()
    for given, expected in (
        ("refuses:eyes.bin", f"refuses:{tmp_path / 'eyes.bin'}"),
        ("largest:0.5", "largest:0.5"),
        ("mtcnn", "mtcnn"),
    ):
        assert make_work(tmp_path / "list.csv", weights, given).detector == expected
