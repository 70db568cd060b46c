"""What `pip install fan_ext` brings is enough to predict; a command that wants an extra says which."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from bare import run_bare

from .drawn_lists import write_list
from .fakes import every_nth

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
MAIN = "import sys; from fan_fer.cli.main import main; sys.exit(main())"


@pytest.fixture
def base(tmp_path: Path):
    """Runs `fan-fer` with the base's packages alone; its exit code, output and errors."""
    folder = tmp_path / "bare"
    folder.mkdir()

    def run(*arguments: object) -> tuple[int, str, str]:
        done = run_bare(folder, PROJECT["dependencies"], ["-c", MAIN, *arguments], ["fan_ext", "fan_fer"])
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def face(clips: Path, tmp_path: Path) -> Path:
    every_nth(clips / "single_face.mp4", tmp_path / "face.avi", 12)
    return tmp_path / "face.avi"


def test_help_and_weights(base) -> None:
    code, out, err = base("--help")
    assert (code, err) == (0, "")
    assert "predict-many" in out
    code, out, err = base("weights")
    assert (code, err) == (0, "")
    assert "resnet18" in out


def test_predict_with_everything_it_writes(base, face: Path, tmp_path: Path) -> None:
    plot, data, rows, video = outputs = [tmp_path / name for name in ("a.png", "a.json", "a.csv", "a.mp4")]
    code, out, err = base("predict", face, "--plot", plot, "--json", data, "--csv", rows, "--annotate", video)
    assert (code, err) == (0, "")
    assert json.loads(data.read_text())["label"] in out
    assert all(path.stat().st_size for path in outputs)


def test_predict_several_in_processes(base, face: Path) -> None:
    code, out, err = base("predict", face, face)
    assert (code, err) == (0, "")
    assert out.count("face.avi") == 2


def test_features_of_every_frame(base, face: Path, tmp_path: Path) -> None:
    code, _, err = base("features", face, "--out", tmp_path / "out.npz")
    assert code == 0, err
    with np.load(tmp_path / "out.npz") as made:
        assert made["embedding"].shape == (len(made["frame"]), 512)


def test_many_videos_without_labels(base, face: Path, tmp_path: Path) -> None:
    listing = write_list(tmp_path / "list.csv", [(face.name,)], "video")
    code, _, err = base("predict-many", listing, "--out", tmp_path / "out.csv", "--workers", 1)
    assert (code, err) == (0, "")
    assert "Happy" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "set"], "train needs lightning_fabric: pip install 'fan_ext[train]'"),
        (["table", "set"], "table needs lightning_fabric: pip install 'fan_ext[train]'"),
        (["evaluate", "resnet18", "set"], "evaluate needs lightning_fabric: pip install 'fan_ext[train]'"),
        (
            ["features", "gone.mp4", "--out", "out.parquet"],
            "out.parquet: writing Parquet needs pyarrow: pip install 'fan_ext[parquet]'",
        ),
        (
            ["predict", "gone.mp4", "--parquet", "out.parquet"],
            "out.parquet: writing Parquet needs pyarrow: pip install 'fan_ext[parquet]'",
        ),
        (
            ["predict-many", "labelled.csv", "--out", "out.parquet"],
            "out.parquet: writing Parquet needs pyarrow: pip install 'fan_ext[parquet]'",
        ),
        (["app"], "app needs starlette: pip install 'fan_ext[app]'"),
        (["serve"], "serve needs starlette: pip install 'fan_ext[serve]'"),
        (["export", "--onnx", "fan.onnx"], "writing ONNX needs onnx: pip install 'fan_ext[export]'"),
        (
            ["predict-many", "labelled.csv", "--out", "out.csv"],
            "scoring labelled videos needs lightning_fabric: pip install 'fan_ext[train]'",
        ),
        (
            ["predict-many", "labelled.csv", "--out", "out.csv", "--ray", "local"],
            "a Ray cluster needs ray: pip install 'fan_ext[ray]'",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_missing_extra_is_named(base, tmp_path: Path, arguments: list[str], message: str) -> None:
    write_list(tmp_path / "bare" / "labelled.csv", [("gone.mp4", "Happy")], "video,label")
    assert base(*arguments) == (2, "", f"fan-fer: error: {message}\n")
    assert not (tmp_path / "bare" / "out.csv").exists()


def test_every_extra_that_is_asked_for_can_be_installed() -> None:
    from fan_fer.base.extras import EXTRAS

    assert set(EXTRAS) < set(PROJECT["optional-dependencies"])
