"""Clips, sets and networks under any name that a file can have, and among paths that lead nowhere."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import DrawnFaces

import fan_fer
from fan_fer import recognizer
from fan_fer.attention.weights import load_weights
from fan_fer.base.errors import FanFerError, one_line
from fan_fer.cli.main import main
from fan_fer.cli.outcome import BAD_INPUT, DONE, SOME_FAILED
from fan_fer.datasets.prepare import prepare
from fan_fer.datasets.prepared import open_prepared
from fan_fer.many.predict import predict_many
from fan_fer.output.annotate import draw_face, draw_summary
from fan_fer.video.decoding import Video
from fan_fer.video.sources import list_videos

from .drawn_lists import random_weights, read_rows
from .drawn_sets import draw_ckplus
from .fakes import SquareDetector, make_clip, write_video
from .fakes import names as entries
from .odd_paths import BROKEN, FOREIGN, LONGEST, UNREACHABLE, make_unreachable

ODD = f"{FOREIGN} {BROKEN}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder, and under a name, that is no text."""
    folder = tmp_path_factory.mktemp("weights") / ODD
    folder.mkdir()
    return random_weights(folder / f"{ODD}.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [[(10 + i, 10, 30)] for i in range(3)])


@pytest.fixture
def run(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A command in this process, red squares being faces; its exit code, and the lines of both outputs."""
    monkeypatch.setattr(recognizer, "load_detector", lambda spec, device=None: SquareDetector())

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture(scope="module")
def squares(weights: Path) -> fan_fer.Recognizer:
    return fan_fer.load_recognizer(weights, detector=SquareDetector())


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder of somebody else's, in which a file, a folder and what is in another folder may not be read."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modes = {"closed": 0, "listed": 0o444, "secret.mp4": 0}
        for place in ("closed/clip.mp4", "listed/clip.mp4", "secret.mp4", "good.mp4"):
            (folder / place).parent.mkdir(exist_ok=True)
            write_video(folder / place, [[(10, 10, 30)]])
        folder.chmod(0o777)
        for place, mode in modes.items():
            (folder / place).chmod(mode)
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            for place in modes:
                (folder / place).chmod(0o700)


# Names


def test_a_clip_of_any_name_in_every_output(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    odd = folder / f"{ODD}.mp4"
    long = folder / ("y" * (LONGEST - 4) + ".mp4")
    bare = folder / ("z" * LONGEST)
    for copy in (odd, long, bare):
        shutil.copy(clip, copy)
    outputs = ("--json", folder / "o.json", "--csv", folder / "o.csv", "--plot", folder / "plots")
    code, out, err = run("predict", odd, long, bare, "--weights", weights, *outputs, "--annotate", folder / "drawn")
    assert (code, err) == (DONE, [])
    assert any(rf"{FOREIGN[:1]}\xc4\xe3 \xff a\nb\r\x1b[31m.mp4" in line for line in out)
    clips = json.loads((folder / "o.json").read_text())["clips"]
    assert [entry["video"] for entry in clips] == [str(odd), str(long), str(bare)]
    rows = read_rows(folder / "o.csv")
    assert len(rows) == 9
    assert rows[0]["video"].endswith("a\nb\r\x1b[31m.mp4")
    for made, suffix in (("plots", ".png"), ("drawn", ".mp4")):
        assert len(entries(folder / made)) == 3
        assert f"{ODD}{suffix}" in entries(folder / made)
    code, _, err = run("predict", odd, "--weights", weights, "--annotate", folder / f"{ODD} 2.mp4", "--faces", "all",
                       "--plot", folder / f"{ODD}.pdf")  # fmt: skip
    assert (code, err) == (DONE, [])
    assert Video(folder / f"{ODD} 2.mp4").frame_count == 3
    assert not [name for name in entries(folder) if name.endswith(".partial")]
    code, out, err = run("weights", weights)
    assert (code, err) == (DONE, [])


def test_clips_of_the_same_name_do_not_meet(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    given = ["x/clip.mp4", "y/clip-2.mp4", "y/Clip.mov"]
    for name in given:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / name)
    folders = [tmp_path / name for name in "xy"]
    code, _, _ = run("predict", *folders, "--weights", weights, "--plot", tmp_path / "plots")
    assert code == DONE
    assert entries(tmp_path / "plots") == ["Clip-3.png", "clip-2.png", "clip.png"]


def test_a_set_of_any_names(clip: Path, tmp_path: Path) -> None:
    names = [FOREIGN, BROKEN, "y" * (LONGEST - 4), "plain"]
    for label in ("Happy", FOREIGN):
        (tmp_path / "source" / label).mkdir(parents=True)
        for name in names:
            shutil.copy(clip, tmp_path / "source" / label / f"{name}.mp4")
    for found_done in (0, 8):
        done = prepare("folders", tmp_path / "source", tmp_path / ODD, size=32, detector=SquareDetector())
        assert done.found_done == found_done
    prepared = open_prepared(tmp_path / ODD)
    assert prepared.classes == ("Happy", r"z\xc4\xe3 \xff")
    assert {Path(found.name).name for found in prepared.clips} == set(names)
    for found in prepared.clips:
        assert prepared.crops(found).shape == (3, 32, 32, 3)


def test_training_in_a_folder_that_is_no_text(run, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / ODD
    source = draw_ckplus(tmp_path / "ckplus", subjects=2, sequences=2, frames=2).rename(tmp_path / FOREIGN)
    prepare("ckplus", source, folder, size=32, detector=DrawnFaces(), folds=2)
    (tmp_path / f"{FOREIGN}.toml").write_text("epochs = 1\nlr = 0.1\n")
    options = ("--config", tmp_path / f"{FOREIGN}.toml", "--init", weights, "--freeze-backbone", "--device", "cpu")
    for _ in range(2):  # the second reads what the first has done
        code, _, err = run("train", folder, "--fold", "1", *options)
        assert (code, err) == (DONE, [])
    (tmp_path / "loop").symlink_to("loop")
    for option in ("--config", "--init", "--out"):
        code, _, err = run("train", folder, "--fold", "1", *options, option, tmp_path / "loop")
        assert (code, len(err)) == (BAD_INPUT, 1)
    (made,) = folder.glob("runs/*/fan/fold-1/seed-0")
    assert len(entries(made / "tensorboard")) == 1
    assert load_weights(made / "best.safetensors")[1].trained_on.startswith(one_line(FOREIGN))
    assert run("evaluate", made / "best.safetensors", folder, "--out", folder / "scores")[0] == DONE
    code, out, _ = run("table", folder, "--seeds", "1", "--variants", "fan", *options)
    assert code == DONE
    assert any(line.startswith(f"Recipe {one_line(FOREIGN)}, backbone resnet18, 2 folds") for line in out)


def test_rows_come_back_whatever_is_in_a_name(weights: Path, clip: Path, tmp_path: Path) -> None:
    names = ["a\nb.mp4", "a\rb.mp4", "a\r\nb.mp4", 'a,"b".mp4']
    for name in names:
        shutil.copy(clip, tmp_path / name)
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["video"], *([name] for name in names)])
    out = tmp_path / ("m" * LONGEST)
    for _ in range(2):
        summary = predict_many(tmp_path / "list.csv", out, weights=weights, detector=SquareDetector(), workers=0)
        assert [found.error for found in summary.clips] == [""] * 4
        assert [row["video"] for row in read_rows(out)] == names
    (journal,) = (name for name in entries(tmp_path) if name.endswith(".progress"))
    assert len(journal) <= LONGEST


def test_classes_that_are_no_text_are_drawn() -> None:
    clip = make_clip(3)
    frame = clip.frames[0]
    names = dict.fromkeys([FOREIGN], 1.0)
    clip.probabilities.update(names)
    frame.probabilities.update(names)
    object.__setattr__(frame, "emotion", FOREIGN)
    object.__setattr__(clip, "label", FOREIGN)
    image = np.zeros((200, 200, 3), np.uint8)
    draw_face(image, clip, frame, 1.0)
    draw_summary(image, [clip], 0)
    assert image.any()


# Paths


def test_paths_that_lead_nowhere_cost_their_clips_only(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in make_unreachable(tmp_path)]
    code, _, err = run("predict", *paths, clip, "--weights", weights, "--json", tmp_path / "o.json")
    assert code == SOME_FAILED
    assert len(err) == len(paths)
    for line, path, message in zip(err, paths, UNREACHABLE.values(), strict=True):
        assert line.startswith(f"fan-fer: error: {path}: ")
        assert message in line
    document = json.loads((tmp_path / "o.json").read_text())
    assert [found["video"] for found in document["clips"]] == [str(clip)]
    assert [found["video"] for found in document["failures"]] == list(map(str, paths))


def test_rows_that_lead_nowhere_cost_themselves_only(run, weights: Path, clip: Path, tmp_path: Path) -> None:
    rows = [*make_unreachable(tmp_path), "clip.mp4"]
    listing = tmp_path / "list.csv"
    listing.write_text("video,label\n" + "".join(f"{row},Happy\n" for row in rows))
    code, _, _ = run("evaluate", weights, listing, "--out", tmp_path / "scores")
    assert code == SOME_FAILED
    predict_many(listing, tmp_path / "many.csv", weights=weights, detector=SquareDetector(), workers=0)
    for table in (tmp_path / "scores" / "predictions.csv", tmp_path / "many.csv"):
        found = read_rows(table)
        assert [row["video"] for row in found] == rows
        assert not found[-1]["error"]
        for row, message in zip(found, UNREACHABLE.values(), strict=False):
            assert message in row["error"]
    done = prepare("csv", listing, tmp_path / "set", size=32, detector=SquareDetector())
    assert [row["status"] for row in done.clips] == ["unreadable"] * (len(rows) - 1) + ["ok"]
    for row, message in zip(done.clips, UNREACHABLE.values(), strict=False):
        assert row["message"].startswith(row["source"])
        assert (message if row["source"] != "folder.mp4" else "there is no image") in row["message"]


@pytest.mark.parametrize("option", ["--json", "--csv", "--plot", "--annotate", "--weights"])
def test_options_that_lead_nowhere_are_one_line(
    run, weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(recognizer.Recognizer, "predict", lambda *_: pytest.fail("the work has begun"))
    suffix = {"--plot": ".png", "--annotate": ".mp4"}.get(option, "")
    for name in ("x" * 300, "/".join(["d" * 200] * 30), "loop", "loop/x", "file/x", "/proc/self/x", ""):
        path = tmp_path / f"{name}{suffix}"
        if name == "loop":
            path.symlink_to(path.name)
            (tmp_path / "file").touch(exist_ok=True)
        code, out, err = run("predict", clip, "--weights", weights, option, path)
        assert (code, out, len(err)) == (BAD_INPUT, [], 1), name
        assert "rror: " in err[0]


def test_commands_refuse_what_leads_nowhere_in_one_line(run, weights: Path, tmp_path: Path) -> None:
    odd = [tmp_path / name for name in make_unreachable(tmp_path)]
    (tmp_path / "list.csv").write_text("video,label\nx.mp4,Happy\n")
    for path in odd:
        for command in (
            ("evaluate", weights, path),
            ("evaluate", path, tmp_path / "list.csv"),
            ("evaluate", weights, tmp_path / "list.csv", "--label-map", path),
            ("evaluate", weights, tmp_path / "list.csv", "--frame-truth", path),
            ("predict-many", path, "--out", tmp_path / "m.csv", "--weights", weights),
            ("predict-many", tmp_path / "list.csv", "--out", tmp_path / "m.csv", "--weights", path),
            ("prepare", "--layout", "csv", path, tmp_path / "set"),
            ("prepare", "--layout", "folders", path, tmp_path / "set"),
            ("train", path),
            ("table", path),
            ("weights", path),
            ("export", "--onnx", tmp_path / "a.onnx", "--weights", path),
            ("live", path),
            ("app", "--example", path),
        ):
            code, out, err = run(*command)
            assert (code, out, len(err)) == (BAD_INPUT, [], 1), command


def test_what_may_not_be_read_is_named_and_the_rest_is_done(squares: fan_fer.Recognizer, closed: Path) -> None:
    names = ["closed", "good.mp4", "listed/clip.mp4", "secret.mp4"]
    assert list_videos([closed]) == [closed / name for name in names]
    assert squares.predict(closed / "good.mp4").frames_total == 1
    for name in ("closed", "closed/clip.mp4", "listed/clip.mp4", "secret.mp4"):
        with pytest.raises(FanFerError, match=r"^[^:]*: (no permission to read it|cannot be looked into \(Perm.*\))$"):
            squares.predict(closed / name)
    (closed / "list.csv").write_text("video,label\n" + "".join(f"{name},Happy\n" for name in names))
    done = prepare("csv", closed / "list.csv", closed / "set", size=32, detector=SquareDetector())
    assert [row["status"] for row in done.clips] == ["unreadable", "ok", "unreadable", "unreadable"]
    with pytest.raises(FanFerError, match=r"closed/x: cannot be made \(Permission denied\)"):
        prepare("csv", closed / "list.csv", closed / "closed" / "x", detector=SquareDetector())


def test_a_clip_s_folder_that_may_not_be_looked_into_is_left_out(closed: Path) -> None:
    (closed / "faces" / "Happy").mkdir(parents=True)
    (closed / "faces" / "Happy" / "frames").mkdir(mode=0)
    shutil.copy(closed / "good.mp4", closed / "faces" / "Happy" / "good.mp4")
    done = prepare("folders", closed / "faces", closed / "set", size=32, detector=SquareDetector())
    assert {row["clip"]: row["status"] for row in done.clips} == {"Happy/good": "ok", "Happy/frames": "unreadable"}
    (closed / "faces" / "Happy").chmod(0)
    with pytest.raises(FanFerError, match=r"Happy: cannot be read \(Permission denied\)$"):
        prepare("folders", closed / "faces", closed / "other", detector=SquareDetector())
    (closed / "faces" / "Happy").chmod(0o700)
