"""What must hold, whatever the input: no crash, no traceback, one line for what is wrong, nothing lost."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
from drawn_faces import DrawnFaces
from fuzz.inputs import (
    JOURNAL,
    MAPS,
    RECIPES,
    TABLES,
    damaged,
    networks,
    operator_arguments,
    prepared_sets,
    some,
    videos,
    words,
)
from fuzz.target import Target

import fan_ext
from fan_ext import reference
from fan_fer.app.uploads import Limits, check_upload
from fan_fer.attention.checkpoints import import_network, read_checkpoint
from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.attention.weights import ModelCard, load_weights, save_weights
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError, FanFerError, TrainingError, VideoError, WeightsError
from fan_fer.cli import options
from fan_fer.cli.main import main
from fan_fer.datasets.layouts import csv_list
from fan_fer.datasets.prepared import open_prepared
from fan_fer.evaluation.clips import choose_prepared, read_videos, with_truths
from fan_fer.evaluation.informative import load_truth
from fan_fer.evaluation.labels import match_labels, parse_label_map
from fan_fer.faces.align import TEMPLATE
from fan_fer.features.preprocessing import Preprocessing
from fan_fer.many.journal import Journal
from fan_fer.training.recipe import load_recipe
from fan_fer.video.sources import open_clip

FRAMES = 100  # of a video that are looked at


@contextmanager
def refused(*kinds: type[FanFerError]) -> Iterator[None]:
    """What may be wrong with the input, each in one line."""
    message = ""
    try:
        yield
    except kinds as error:
        message = str(error) or "\n"
    assert len(message.splitlines()) <= 1, f"no message of one line: {message!r}"


def check_video(made: tuple[str, bytes], folder: Path) -> None:
    name, data = made
    path = folder / f"clip.{name.split()[-1].lstrip('.')}"
    path.write_bytes(data)
    with refused(VideoError):
        clip = open_clip(path)
        last_index, last_time = -1, -math.inf
        for frame in islice(clip, FRAMES):
            assert frame.index > last_index, "numbers that do not rise"
            assert last_time < frame.time < math.inf, f"times that do not rise: {last_time}, {frame.time}"
            assert frame.image.dtype == np.uint8
            assert frame.image.ndim == 3
            assert frame.image.shape[2] == 3
            assert frame.image.size
            last_index, last_time = frame.index, frame.time
        for line in (*clip.warnings, *clip.damaged.values()):
            assert len(line.splitlines()) == 1
    with refused(VideoError):
        next(iter(open_clip(data)), None)


def check_page(made: tuple[str, bytes], folder: Path) -> None:
    path = folder / "upload"
    path.write_bytes(made[1])
    with refused(VideoError):
        check_upload(path, "clip.mp4", Limits())


@lru_cache
def _network(folder: Path) -> Path:
    """Random weights, and a detector that finds drawn faces in place of the real ones."""
    import fan_fer.recognizer

    fan_fer.recognizer.load_detector = lambda *_: DrawnFaces()
    fan_fer.recognizer.load_recognizer = lru_cache(fan_fer.recognizer.load_recognizer)
    options.WORKERS = 0  # this process is one whose death is noticed
    template = tuple((float(x), float(y)) for x, y in TEMPLATE)
    settings = Preprocessing(size=32, grayscale=True, mean=(0.5,) * 3, std=(0.25,) * 3, template=template)
    torch.manual_seed(0)
    save_weights(folder / "random.safetensors", FrameAttentionNetwork(), ModelCard("fan", settings))
    (folder / "good.mp4").write_bytes(videos()["mp4"])
    return folder / "random.safetensors"


def check_predict(made: list[tuple[str, bytes]], folder: Path) -> None:
    """A good clip among damaged ones is in the results."""
    weights = _network(folder)
    clips = [folder / "good.mp4"]
    for number, (name, data) in enumerate(made):
        clips.insert(number, folder / f"{number}.{name.split()[-1].lstrip('.')}")
        clips[number].write_bytes(data)
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    code, _, errors = run_command(["predict", *clips, "--json", out, "--weights", weights])
    for clip in clips[: len(made)]:
        clip.unlink()
    assert code in (0, 1), f"exit code {code}: {errors}"
    content = json.loads(out.read_text("utf-8"))
    told = content["clips"] if len(clips) > 1 else [content]
    good = [clip for clip in told if clip["video"] == str(folder / "good.mp4")]
    assert len(good) == 1
    assert good[0]["frames_with_face"] == 10
    assert len(told) + len(content.get("failures", ())) == len(clips)


def run_command(arguments: list[Any]) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command in this process."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # of argparse
            code = int(end.code or 0)
            return code, out.getvalue(), errors.getvalue()
    for line in errors.getvalue().splitlines():
        assert line.startswith("fan-fer: "), f"on standard error: {line}"
    return code, out.getvalue(), errors.getvalue()


def check_command(arguments: list[str], folder: Path) -> None:
    with contextlib.chdir(_empty(folder)) if hasattr(contextlib, "chdir") else contextlib.nullcontext():
        code, _, errors = run_command(arguments)
    assert code == 2 or (code == 0 and {"-h", "--help", "weights"} & {*arguments}), f"exit code {code}: {errors}"


def _empty(folder: Path) -> Path:
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    return empty


def check_list(made: tuple[str, bytes], folder: Path) -> None:
    path = folder / "list.csv"
    path.write_bytes(made[1])
    with refused(DataError):
        clips = read_videos(path)
        assert all(clip.name for clip in clips)
        with_truths(clips, EMOTIONS, None)
    with refused(DataError):
        source = csv_list(path)
        assert {clip.label for clip in source.clips} <= set(source.classes)
    with refused(DataError):
        load_truth(path)


def check_map(made: tuple[str, bytes], folder: Path) -> None:
    text = made[1].decode("utf-8", "surrogateescape")
    path = folder / "map.json"
    path.write_bytes(made[1])
    for given in (text, str(path)):
        with refused(DataError):
            label_map = parse_label_map(given)
            match_labels([*label_map, "Happy"], EMOTIONS, label_map)


def check_recipe(made: tuple[str, bytes], folder: Path) -> None:
    path = folder / "recipe.toml"
    path.write_bytes(made[1])
    with refused(TrainingError):
        settings = load_recipe(str(path)).settings("afew", "fan")
        assert math.isfinite(settings.lr)


def check_weights(made: tuple[str, bytes], folder: Path) -> None:
    name, data = made
    path = folder / ("net.safetensors" if "safetensors" in name else "net.pth")
    path.write_bytes(data)
    with refused(WeightsError):
        load_weights(path)
    with refused(WeightsError):
        read_checkpoint(path)
    with refused(WeightsError):
        import_network(path, EMOTIONS)


def check_journal(made: tuple[str, bytes], folder: Path) -> None:
    path = folder / "out.csv.progress"
    path.write_bytes(made[1])
    with refused(FanFerError), Journal(path, {"weights": "a"}) as journal:
        assert all(isinstance(name, str) for name in journal.results)


def check_prepared(made: tuple[str, bytes], folder: Path) -> None:
    for name, whole in prepared_sets().items():
        (folder / name).write_bytes(made[1] if name == made[0] else whole)
    with refused(DataError):
        prepared = open_prepared(folder)
        assert all(label in prepared.classes for label in (clip.label for clip in prepared.clips))
        choose_prepared(prepared)


def check_operator(arguments: dict[str, Any], folder: Path) -> None:
    """Right arguments give what plain PyTorch does, wrong ones an error that names what is wrong."""
    try:
        results = fan_ext.frame_attention(**arguments)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return
    out = results[0] if arguments["return_weights"] else results
    if out.requires_grad and out.device.type == "cpu":
        out.float().sum().backward()
    given = [value for value in arguments.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    if out.device.type == "cpu" and all(tensor.isfinite().all() and (tensor.abs() < 100).all() for tensor in given):
        doubled = {name: _doubled(value) for name, value in arguments.items()}
        expected = reference.frame_attention(**{**doubled, "return_weights": False})
        assert torch.allclose(out.detach().double(), expected, rtol=0.02, atol=0.02)


def _doubled(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value.double() if value.is_floating_point() else value
    return value


TARGETS = {
    "videos and pictures": Target(lambda: damaged(videos), check_video, 2500),
    "fan-fer predict": Target(lambda: st.lists(damaged(videos), max_size=3), check_predict, 800),
    "uploads of the page": Target(lambda: damaged(videos), check_page, 600),
    "lists": Target(lambda: some(TABLES), check_list, 1200),
    "label maps": Target(lambda: some(MAPS), check_map, 800),
    "recipes": Target(lambda: some(RECIPES), check_recipe, 800),
    "networks and checkpoints": Target(lambda: damaged(networks), check_weights, 800),
    "prepared sets": Target(lambda: damaged(prepared_sets), check_prepared, 700),
    "progress files": Target(lambda: some(JOURNAL), check_journal, 400),
    "command lines": Target(words, check_command, 400),
    "arguments of the operator": Target(operator_arguments, check_operator, 1000),
}
