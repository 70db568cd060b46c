"""The results as data: the JSON schema, the table, and files that appear whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import OutputError
from fan_fer.base.files import atomic_write, check_writable, write_text
from fan_fer.output.json_csv import batch_json, clip_json, write_csv, write_frames_parquet
from fan_fer.prediction import ClipPrediction, tracks_to_dict

from ..fakes import make_clip, names


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(resources.files("fan_fer").joinpath("prediction.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("variant", ["fan", "self", "score-fusion"])
@pytest.mark.parametrize("video", ["clip.mp4", None])
def test_json_follows_the_schema(validator, variant: str, video: str | None) -> None:
    clip = make_clip(4, missing=(1,), variant=variant, video=video, borders=(2,))
    document = json.loads(clip_json(clip))
    validator.validate(document)
    assert document == clip.to_dict()
    assert list(document["frames"][1].values())[2:] == [None] * 9
    assert [(part["first"], part["last"], part["frames_with_face"]) for part in document["segments"]] == [
        (0, 0, 1),
        (2, 3, 2),
    ]
    assert [frame["segment"] for frame in document["frames"]] == [0, None, 1, 1]
    for part in document["segments"]:
        assert part["confidence"] == part["probabilities"][part["label"]]


@pytest.mark.parametrize("frames", [1, 3, 500, 5_000])
def test_rounded_weights_sum_to_one(frames: int) -> None:
    document = make_clip(frames).to_dict()
    assert math.isclose(sum(frame["weight"] for frame in document["frames"]), 1, abs_tol=1e-6)
    assert math.isclose(sum(document["probabilities"].values()), 1, abs_tol=1e-6)


def test_batch_json_follows_the_schema(validator) -> None:
    document = json.loads(batch_json([make_clip(2), make_clip(3)], {Path("bad.mp4"): 'not a "video"'}))
    validator.validate(document)
    assert [clip["frames_total"] for clip in document["clips"]] == [2, 3]
    assert document["failures"] == [{"video": "bad.mp4", "error": 'not a "video"'}]


def everyone() -> list[ClipPrediction]:
    """Two people: one in frames 1 to 4 but 2, one in all six."""
    clips = make_clip(6, missing=(0, 2, 5)), make_clip(6)
    return [replace(clip, track=number) for number, clip in enumerate(clips, start=1)]


def test_json_of_everyone_follows_the_schema(validator) -> None:
    tracks = everyone()
    document = json.loads(clip_json(tracks))
    validator.validate(document)
    assert document == tracks_to_dict(tracks)
    assert document["frames_total"] == 6
    first, second = document["tracks"]
    assert (first["track"], first["label"], first["frames_with_face"]) == (1, tracks[0].label, 3)
    assert (first["start"], first["end"]) == (0.04, 0.16)
    assert [frame["index"] for frame in first["frames"]] == [1, 2, 3, 4]
    assert first["frames"] == tracks[0].to_dict()["frames"][1:5]
    assert len(second["frames"]) == 6
    assert clip_json(tracks).count("\n") > 20
    batch = json.loads(batch_json([tracks, tracks], {}))
    validator.validate(batch)
    assert batch["clips"] == [document, document]
    del first["frames"][0]["weight"]
    assert not validator.is_valid(document)


def test_csv_of_everyone_has_the_tracks_and_their_spans(tmp_path: Path) -> None:
    write_csv(tmp_path / "frames.csv", everyone())
    with (tmp_path / "frames.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["video", "track", "label", "frame"]
    assert [(row["track"], row["frame"]) for row in rows] == [
        *(("1", str(index)) for index in (1, 2, 3, 4)),
        *(("2", str(index)) for index in range(6)),
    ]


def test_schema_refuses_what_is_half_a_frame(validator) -> None:
    document = make_clip(2).to_dict()
    document["frames"][0]["weight"] = None
    assert not validator.is_valid(document)


def test_csv_has_a_row_per_frame_of_every_clip(tmp_path: Path) -> None:
    clips = [make_clip(3, missing=(0,), video='a, "b"\u00e9.mp4'), make_clip(2)]
    write_csv(tmp_path / "frames.csv", clips)
    with (tmp_path / "frames.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["frame"]) for row in rows] == [
        *((clips[0].video, str(index)) for index in range(3)),
        *((clips[1].video, str(index)) for index in range(2)),
    ]
    assert rows[0]["x"] == rows[0]["weight"] == rows[0]["p_Happy"] == rows[0]["emotion"] == ""
    assert float(rows[1]["weight"]) == pytest.approx(clips[0].frames[1].weight)
    assert float(rows[1]["right_mouth_y"]) == pytest.approx(clips[0].frames[1].landmarks[4][1], abs=0.01)
    assert {row["label"] for row in rows[:3]} == {clips[0].label}
    assert [name for name in rows[0] if name.startswith("p_")] == [f"p_{name}" for name in EMOTIONS]
    part = clips[0].segments[0]
    assert [(row["segment"], row["segment_label"]) for row in rows[:3]] == [("", ""), *[("0", part.label)] * 2]
    assert sum(float(row["segment_weight"] or 0) for row in rows[:3]) == pytest.approx(1)


def test_a_path_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    clip = make_clip(1, video=os.fsdecode(b"\xff.mp4"))
    write_csv(tmp_path / "a.csv", [clip])
    write_text(tmp_path / "a.json", clip_json(clip))
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["video"] == clip.video
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, which writes Parquet, is not installed")
    write_frames_parquet(tmp_path / "a.parquet", [clip])
    assert parquet.read_table(tmp_path / "a.parquet").column("video").to_pylist() == ["\\xff.mp4"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.json"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^/dev/full: cannot be written \(No space left on device\)$"):
        write_text(Path("/dev/full"), "text")


def test_links_are_kept_and_devices_stay_devices(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_writable(tmp_path / "pipe")
    write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("name", "message"),
    [(".", "is a folder"), ("missing/out.json", "there is no folder"), ("file/out.json", "there is no folder")],
)
def test_unwritable_paths_are_known_beforehand(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=message):
        check_writable(tmp_path / name)
    assert names(tmp_path) == ["file"]


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "out.json")
    assert names(tmp_path) == []
