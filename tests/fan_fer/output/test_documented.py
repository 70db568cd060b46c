"""Every member and column that is written is documented with its type, and every one documented is written."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fan_fer.base.emotions import EMOTIONS
from fan_fer.many.job import result_columns
from fan_fer.output.features import ClipFeatures, FeatureSet
from fan_fer.output.json_csv import TYPES, live_json, write_csv, write_frames_parquet
from fan_fer.output.prediction import Prediction
from fan_fer.prediction import SCHEMA_VERSION, ClipPrediction, tracks_to_dict
from fan_fer.video.frame import Frame

from ..fakes import make_clip

DOCS = Path(__file__).parents[3] / "docs"
KINDS = {"text": str, "whole number": int, "number": float}
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "null": (type(None),), "object": (dict,),
    "array": (list,),
}  # fmt: skip


def documented(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by the names in their first cell; CLASS stands for each class."""
    text = (DOCS / page).read_text().split(f"\n## {heading}\n", 1)[1]
    lines = text[text.index("\n|") + 1 :].split("\n\n", 1)[0].splitlines()[2:]
    rows: dict[str, list[str]] = {}
    for first, *cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines):
        for name in re.findall(r"`(\w+)`", first):
            names = [name.replace("CLASS", emotion) for emotion in EMOTIONS] if "CLASS" in name else [name]
            rows |= dict.fromkeys(names, cells)
    return rows


def schema() -> dict[str, Any]:
    found = json.loads(resources.files("fan_fer").joinpath("prediction.schema.json").read_text("utf-8"))["$defs"]
    return {**found, "segment": found["segments"]["items"]}


def make_tracks() -> list[ClipPrediction]:
    return [replace(make_clip(6, borders=(3,)), track=1), replace(make_clip(6, missing=(0,)), track=2)]


@pytest.mark.parametrize(
    ("heading", "part", "written"),
    [
        ("A clip", "clip", make_clip(6, missing=(1,), borders=(3,)).to_dict()),
        ("Segments", "segment", make_clip(6, borders=(3,)).to_dict()["segments"][0]),
        ("A frame", "frame_with_face", make_clip(6).to_dict()["frames"][0]),
        ("A frame", "frame_without_face", make_clip(6, missing=(1,)).to_dict()["frames"][1]),
        ("Everyone in a clip", "track", tracks_to_dict(make_tracks())["tracks"][0]),
    ],
)
def test_members_of_json(heading: str, part: str, written: dict[str, Any]) -> None:
    rows, known = documented("prediction.md", heading), schema()[part]
    assert set(rows) == set(written) == set(known["properties"])
    assert set(known["required"]) <= set(written)
    for name, (kind, *_) in rows.items():
        allowed = [word for word in JSON_TYPES if re.search(rf"\b{word}\b", kind)]
        if allowed and part != "frame_without_face":
            assert isinstance(written[name], tuple(one for word in allowed for one in JSON_TYPES[word])), name
        assert ("null" in kind.split(", ")[1:]) <= (part in ("clip", "segment")), name


def test_members_beside_the_tracks() -> None:
    told = tracks_to_dict(make_tracks())
    text = (DOCS / "prediction.md").read_text().split("\n## Everyone in a clip\n", 1)[1].split("\n|", 1)[0]
    listed = set(re.findall(r"`(\w+)`", text.split("makes the JSON object of it", 1)[1]))
    assert listed == set(told) == set(schema()["everyone"]["properties"])


def test_versions_are_one() -> None:
    assert make_clip().to_dict()["schema_version"] == SCHEMA_VERSION
    assert {
        part["properties"]["schema_version"]["const"] for part in map(schema().get, ("clip", "everyone", "batch"))
    } == {SCHEMA_VERSION}
    assert f"All of it has one version, {SCHEMA_VERSION}:" in (DOCS / "prediction.md").read_text()


def test_columns_of_a_table(tmp_path: Path) -> None:
    rows = documented("prediction.md", "The table")
    for tracks, lacking in ((make_tracks(), set()), ([make_clip(6, missing=(0,))], {"track"})):
        write_csv(tmp_path / "a.csv", tracks)
        with (tmp_path / "a.csv").open(newline="") as file:
            header = next(csv.reader(file))
        assert [name for name in rows if name not in lacking] == header
    for name, (kind, _, empty) in rows.items():
        assert TYPES.get(name, float) is KINDS[kind], name
        assert empty, name


def test_columns_of_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    rows = documented("prediction.md", "The table")
    tracks = make_tracks()
    write_frames_parquet(tmp_path / "a.parquet", tracks)
    write_csv(tmp_path / "a.csv", tracks)
    table = parquet.read_table(tmp_path / "a.parquet")
    types = {str: "string", int: "int64", float: "double"}
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == {
        name: types[KINDS[kind]] for name, (kind, *_) in rows.items()
    }
    with (tmp_path / "a.csv").open(newline="") as file:
        for row, cells in zip(table.to_pylist(), csv.DictReader(file), strict=True):
            assert {name: "" if value is None else str(value) for name, value in row.items()} == cells
    about = json.loads(table.schema.metadata[b"fan_fer"])
    assert about["schema_version"] == SCHEMA_VERSION
    text = (DOCS / "prediction.md").read_text().split("Its metadata hold under `fan_fer` a JSON object with", 1)[1]
    assert set(re.findall(r"`(\w+)`", text.split("\n\n")[0])) == set(about)


def test_columns_of_features(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    clip = make_clip(4, missing=(1,))
    features = FeatureSet((ClipFeatures(np.ones((4, 8), np.float32), Prediction(**vars(clip))),))
    features.save(tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    text = (DOCS / "prediction.md").read_text().split("`.parquet` has a row per frame:", 1)[1].split("\n\n")[0]
    listed = set(re.findall(r"`(\w+)`", text.split("It needs")[0])) - {"fan_fer", "network"}
    coordinates = {name for name in table.column_names if re.fullmatch(r"x|y|width|height|\w+_[xy]", name)}
    assert coordinates < set(documented("prediction.md", "The table"))
    assert listed | coordinates | {"weight"} == set(table.column_names)
    arrays = documented("prediction.md", "Features for other models")
    assert set(arrays) - {"schema_version", "weights_file", *clip.model} == set(features.arrays())
    about = json.loads(table.schema.metadata[b"fan_fer"])
    assert set(about) == set(re.findall(r"`(\w+)`", " ".join(arrays["network"])))
    assert about["schema_version"] == SCHEMA_VERSION


def test_columns_of_many_videos_and_members_of_live() -> None:
    assert tuple(documented("many-videos.md", "The results")) == result_columns(EMOTIONS)
    frame = Frame(5, 0.2, np.zeros((8, 8, 3), np.uint8))
    assert set(json.loads(live_json(frame, make_clip(6)))) == set(documented("live.md", "Lines of JSON"))
    assert set(json.loads(live_json(frame, None))) == set(documented("live.md", "Lines of JSON"))
