"""Every `fan-fer` command of the documentation runs where the files it names are, and leaves those that it makes."""

from __future__ import annotations

import csv
import itertools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from drawn_faces import DrawnFaces, draw_face
from torch import nn

from fan_fer.attention import weights
from fan_fer.base.emotions import EMOTIONS
from fan_fer.cli import app, serve, serving
from fan_fer.cli.main import COMMANDS, _parser, main
from fan_fer.cli.outcome import BAD_INPUT, DONE
from fan_fer.datasets import prepare as preparing
from fan_fer.datasets.files import CLIPS_FILE
from fan_fer.many import predict as many
from fan_fer.paper import table as paper
from fan_fer.training import recipe as recipes
from fan_fer.video import sources
from fan_fer.video.decoding import is_address

from ..fan_fer.datasets.test_layouts import ferv39k, mafw, touched
from ..fan_fer.drawn_lists import random_weights
from ..fan_fer.drawn_sets import CROP, draw_afew, draw_ckplus, draw_crema_d, draw_dfew, draw_ravdess, write_pictures
from .pages import PAGES, ROOT, commands

ELSEWHERE = {
    **{shlex.join(arguments): "tests/docs/test_compare_page.py" for arguments in commands("docs/compare.md")},
    "predict-many videos.csv --out results.csv --ray local --workers 2": "tests/fan_fer/many/test_cluster.py",
    "predict-many /shared/videos.csv --out /shared/results.csv --ray HOST:6379": "tests/fan_fer/many/test_cluster.py",
    "export --aot fan.pt2": "tests/fan_fer/attention/test_export.py",
}
"""Commands that are not run here, and the tests of what they do: a cluster and a compiler take as long as the rest."""

DOCUMENTED = {shlex.join(arguments): arguments for page in PAGES for arguments in commands(page)}
RUN_HERE = {
    shlex.join(words): words
    for command, arguments in DOCUMENTED.items()
    if command not in ELSEWHERE
    for words in map(list, itertools.product(*(word.split("|") for word in arguments)))
}
"""Each A|B is two commands."""

TRAINED = "*/runs/*/*/*/*/best.safetensors"
LEFT = {"table": ("**/runs/*/table.png", "**/runs/*/table.json"), "train": (TRAINED,), "prepare": (f"**/{CLIPS_FILE}",)}
"""What commands leave whose names the command line does not say."""


# How the files that commands read come to be


def video(path: Path, emotion: str = "Happy", person: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pictures(path, [draw_face(emotion, 1, person, shift=(shift, 0)) for shift in range(3)])


def folder_of_videos(path: Path) -> None:
    for person, emotion in enumerate(("Happy", "Sad")):
        video(path / f"{emotion}.mp4", emotion, person)


def listed(path: Path) -> None:
    rows = [(f"{path.stem}-{number}.avi", ("Happy", "Sad")[number % 2], number) for number in range(5)]
    for name, emotion, person in rows:
        video(path.with_name(name), emotion, person)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("video", "label", "subject"), *rows])


def folders(path: Path) -> None:
    for number, emotion in enumerate(EMOTIONS):
        for split in ("train", "val"):
            video(path / split / emotion / f"{number}.avi", emotion, number)


def mead(path: Path) -> None:
    names = {"angry": "Angry", "happy": "Happy"}
    touched(path, *(f"M00{n}/video/front/{name}/level_1/001.mp4" for n in range(5) for name in names))


def drawn_over(make: Callable[[Path], object], path: Path) -> None:
    """A set of which the names are enough, but for faces in its empty files."""
    make(path)
    for file in path.rglob("*.*"):
        if file.stat().st_size == 0 and file.suffix == ".jpg":
            cv2.imwrite(str(file), draw_face("Happy", 1, 0)[..., ::-1])
        elif file.stat().st_size == 0 and file.suffix == ".mp4":
            video(file)


SOURCES: Mapping[str, Callable[[Path], object]] = {
    "ckplus": partial(draw_ckplus, subjects=10, sequences=1, frames=2),
    "crema-d": partial(draw_crema_d, actors=5, frames=1),
    "ravdess": partial(draw_ravdess, actors=6, frames=1),
    "dfew": partial(draw_dfew, clips=1),
    "afew": partial(draw_afew, train=1, val=1, frames=4),
    "mead": partial(drawn_over, mead),
    "ferv39k": partial(drawn_over, ferv39k),
    "mafw": partial(drawn_over, mafw),
    "folders": folders,
    "csv": listed,
}
"""Data sets in their layouts."""


def prepared(layout: str, folds: int | None = None, classes: str | None = None) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        source = path.with_name(f"{path.name}-source")
        SOURCES[layout](source)
        preparing.prepare(layout, source, path, size=CROP, detector=DrawnFaces(), folds=folds, classes=classes)

    return make


def resnet18(path: Path, size: int = 8) -> None:
    """Weights under torchvision's names, as the published backbone's are."""
    from fan_fer.features.resnet import ResNet18

    network = ResNet18()
    network.fc = nn.Linear(network.feature_size, size)
    torch.save({"state_dict": network.state_dict()}, path)


def of_timm(path: Path) -> None:
    import timm

    torch.save(timm.create_model("resnet18").state_dict(), path)


MAKE: Mapping[str, Callable[[Path], object]] = {
    "clip.mp4": video,
    "clips": folder_of_videos,
    "videos.csv": listed,
    "MODEL": random_weights,
    "fan.safetensors": random_weights,
    "self.safetensors": random_weights,
    "Resnet18_FER+_pytorch.pth.tar": resnet18,
    "resnet18.pt": of_timm,
    "DST": prepared("afew"),
    "afew": prepared("afew"),
    "ict-afew": SOURCES["afew"],
    "prepared/ict-afew": prepared("afew"),
    "ckplus": prepared("ckplus", folds=2),
    "prepared/ict-ckplus": prepared("ckplus", folds=2),
    "A": prepared("crema-d", folds=2),
    "B": prepared("ravdess", 2, "Calm=Neutral,Surprise=-"),
    "crema": prepared("crema-d", folds=2),
    "ravdess6": prepared("ravdess", 2, "Calm=Neutral,Surprise=-"),
}
"""How what commands read comes to be, by the names that they call it."""


def make_what_it_reads(words: list[str], parsed: Any, folder: Path) -> None:
    if words[0] == "prepare":
        assert parsed.layout in SOURCES, f"say in SOURCES how a set in the layout {parsed.layout} is drawn"
        SOURCES[parsed.layout](folder / parsed.source)
        return
    for name, make in MAKE.items():
        if any(word == name or word.startswith(f"{name}/") for word in words):
            (folder / name).parent.mkdir(exist_ok=True)
            make(folder / name)


# What stands in for detectors, cameras, browsers, processes, and hours of training


def one_epoch(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: one_epoch(value) if isinstance(value, dict) else 1 if key == "epochs" else value
        for key, value in table.items()
    }


def quick_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without the layers of a ResNet, which take long to write."""
    network, card = weights.load_weights()
    network.backbone = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.Flatten(), nn.Linear(256, network.feature_size))
    monkeypatch.setattr(weights, "load_weights", lambda path: (network, card))


def quick_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network of random weights in place of those that timm publishes."""
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **o: create("test_resnet", **o))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepare, predict_many, open_clip = preparing.prepare, many.predict_many, sources.open_clip
    load_recipe, plan_runs = recipes.load_recipe, paper.plan_runs

    def prepare_here(*arguments: Any, **options: Any) -> Any:
        return prepare(*arguments, **options | {"workers": 0})

    def predict_here(*arguments: Any, **options: Any) -> Any:
        return predict_many(*arguments, **options | {"workers": 0})

    def open_here(source: Any) -> Any:
        if isinstance(source, int) or is_address(str(source)):
            source = ((number / 25, draw_face("Happy", 1, 0)) for number in range(3))
        return open_clip(source)

    def load_quick(name: str) -> recipes.Recipe:
        recipe = load_recipe(name)
        return replace(recipe, values=one_epoch(recipe.values))

    monkeypatch.setattr(preparing, "prepare", prepare_here)
    monkeypatch.setattr(many, "predict_many", predict_here)
    monkeypatch.setattr(sources, "open_clip", open_here)
    monkeypatch.setattr(recipes, "load_recipe", load_quick)
    monkeypatch.setattr(paper, "plan_runs", lambda variants, partitions, seeds: plan_runs(variants, partitions[:1], 1))
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    monkeypatch.setattr("fan_fer.cli.options.WORKERS", 0)
    monkeypatch.setattr("fan_fer.faces.mtcnn.make_mtcnn", lambda argument="", device="cpu": DrawnFaces())
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    for command in (app, serve):
        monkeypatch.setattr(command, "listen", lambda host, port: serving.listen(host, 0))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("command", RUN_HERE)
def test_it_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = RUN_HERE[command]
    parsed = _parser().parse_args(words)
    if words[0] == "export":
        quick_exports(monkeypatch)
    if "pretrained" in words or any(word.startswith("timm:") for word in words):
        quick_timm(monkeypatch)
    make_what_it_reads(words, parsed, tmp_path)
    monkeypatch.chdir(tmp_path)
    given = [str(found) for word in words for found in (sorted(Path().glob(word)) if "*" in word else [word])]
    wanted = BAD_INPUT if "cuda" in words and not torch.cuda.is_available() else DONE
    code = main(given)
    printed = capsys.readouterr().err
    assert code == wanted, (
        f"fan-fer {command}: ends with {code}\n{printed}"
        "Files that it reads: say in MAKE how they come to be; what cannot be run here: name in ELSEWHERE what runs it"
    )
    if wanted == BAD_INPUT:
        assert printed.count("\n") == 1
        assert "cuda" in printed
        return
    named = [value for value in vars(parsed).values() if isinstance(value, Path)]
    assert [path for path in named if not path.exists()] == []
    assert [pattern for pattern in LEFT.get(words[0], ()) if not [*tmp_path.glob(pattern)]] == []


def test_commands_are_found() -> None:
    known = {"predict clips/ --csv frames.csv --abstain 0.8", "evaluate MODEL videos.csv", "table ckplus/"}
    assert known <= RUN_HERE.keys()
    own = {module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS}
    assert own == {words[0] for words in DOCUMENTED.values()}


def test_what_is_run_elsewhere_is_documented_and_tested() -> None:
    assert ELSEWHERE.keys() - DOCUMENTED.keys() == set()
    assert [test for test in ELSEWHERE.values() if not (ROOT / test).is_file()] == []
    for command in ELSEWHERE:
        _parser().parse_args(DOCUMENTED[command])
