"""Preparing a data set: what is written, folds, damaged clips, other people's folders, kills, and many processes."""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_faces import DrawnFaces, draw_face

from fan_fer.base.errors import DataError, DetectorError, FanFerError, OutputError
from fan_fer.cli import main as cli
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED
from fan_fer.datasets import extraction, files
from fan_fer.datasets import prepare as preparing
from fan_fer.datasets.files import CLIP_COLUMNS, FRAME_COLUMNS, read_rows
from fan_fer.datasets.prepare import Preparation, prepare
from fan_fer.datasets.prepared import open_prepared
from fan_fer.faces.align import align_face
from fan_fer.video.decoding import Video

from ..command_process import end_command, start_command, wait_for_workers
from ..drawn_sets import CROP, draw_afew, draw_ckplus, prepared_afew, prepared_ckplus, write_pictures
from ..fakes import names


def run(layout: str, source: Path, target: Path, **options: object) -> Preparation:
    settings = {"size": CROP, "detector": DrawnFaces(), **options}
    if layout == "ckplus":
        settings.setdefault("folds", 2)
    return prepare(layout, source, target, **settings)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and below, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def clip_rows(folder: Path) -> dict[str, dict[str, str]]:
    return {row["clip"]: row for row in read_rows(folder / "clips.csv", CLIP_COLUMNS)}


def frame_rows(folder: Path, clip: str) -> list[dict[str, str]]:
    return [row for row in read_rows(folder / "frames.csv", FRAME_COLUMNS) if row["clip"] == clip]


def blank(path: Path, frames: int = 4) -> Path:
    """A video without a face."""
    return write_pictures(path, [np.full((80, 96, 3), 40, np.uint8)] * frames)


# What is written


def test_ckplus(tmp_path: Path) -> None:
    prepared = open_prepared(prepared_ckplus(tmp_path, subjects=3, sequences=2, frames=4, unlabelled=2))
    assert prepared.classes == ("Angry", "Contempt", "Disgust", "Fear", "Happy", "Sad", "Surprise")
    assert (prepared.layout, prepared.size, prepared.detector, prepared.folds) == ("ckplus", CROP, "drawn", 3)
    assert [(clip.name, clip.label, clip.subject, clip.fold, clip.split) for clip in prepared.clips] == [
        ("S000/001", "Angry", "S000", 1, None),
        ("S000/002", "Contempt", "S000", 1, None),
        ("S001/001", "Contempt", "S001", 2, None),
        ("S001/002", "Disgust", "S001", 2, None),
        ("S002/001", "Disgust", "S002", 3, None),
        ("S002/002", "Fear", "S002", 3, None),
    ]
    assert {clip.numbers for clip in prepared.clips} == {(0, 1, 2, 3)}
    assert files.read_settings(prepared.folder).without_label == 2

    clip = prepared.clips[1]
    image = cv2.imread(str(tmp_path / "ckplus/cohn-kanade-images/S000/002/S000_002_00000003.png"))
    (face,) = DrawnFaces().detect(image)
    crop = prepared.crops(clip, [2])[0]
    assert np.array_equal(crop, align_face(image, face.landmarks, CROP))
    assert (crop[..., :1] == crop).all()  # grey
    assert prepared.crops(clip).shape == (4, CROP, CROP, 3)

    row = frame_rows(prepared.folder, clip.name)[2]
    assert row["source"] == "cohn-kanade-images/S000/002/S000_002_00000003.png"
    assert (row["frame"], float(row["time"]), row["status"], float(row["score"])) == ("2", 2 / 25, "ok", 1.0)
    assert tuple(float(row[name]) for name in ("x", "y", "width", "height")) == face.box
    assert [float(row["nose_x"]), float(row["nose_y"])] == pytest.approx(face.landmarks[2], abs=1e-4)
    assert clip_rows(prepared.folder)[clip.name] == {
        "clip": "S000/002", "label": "Contempt", "split": "", "subject": "S000", "fold": "1",
        "source": "cohn-kanade-images/S000/002", "frames": "4", "faces": "4", "status": "ok", "message": "",
    }  # fmt: skip


def test_afew(tmp_path: Path) -> None:
    prepared = open_prepared(prepared_afew(tmp_path, train=2, val=1))
    assert prepared.classes == ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
    assert [clip.name for clip in prepared.clips[:3]] == [
        "Train_AFEW/Angry/000000001",
        "Train_AFEW/Angry/000000002",
        "Train_AFEW/Disgust/000000003",
    ]
    assert all(clip.label == clip.name.split("/")[1] for clip in prepared.clips)
    (partition,) = prepared.partitions()
    assert partition.name == "val"
    assert [prepared.clips[index].split for index in partition.train] == ["train"] * 14
    assert [prepared.clips[index].split for index in partition.test] == ["val"] * 7

    clip = prepared.clips[5]
    video = Video(tmp_path / "afew" / f"{clip.name}.avi")
    for frame in video:
        (face,) = DrawnFaces().detect(frame.image)
        assert np.array_equal(prepared.crops(clip, [frame.index])[0], align_face(frame.image, face.landmarks, CROP))
    assert [float(row["time"]) for row in frame_rows(prepared.folder, clip.name)] == pytest.approx(
        [frame.time for frame in video], abs=1e-6
    )
    assert {row["source"] for row in frame_rows(prepared.folder, clip.name)} == {f"{clip.name}.avi"}
    with pytest.raises(DataError, match="has no folds"):
        prepared.fold(1)


def test_folders_of_videos_and_of_images(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split in ("Train", "validation"):
        (source / split / "glad").mkdir(parents=True)
        for number in (1, 2, 10):  # in this order, though "10" sorts before "2"
            image = source / split / "cross" / "a" / f"frame{number}.JPG"
            image.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), draw_face("Angry", number / 10, 1)[..., ::-1])
        write_pictures(source / split / "glad" / "b.avi", [draw_face("Happy", 1, 2)] * 2)
        write_pictures(source / split / "glad" / "c.avi", [draw_face("Happy", 1, 3)] * 2)
        write_pictures(source / split / "glad" / "c.mkv", [draw_face("Happy", 1, 4)] * 2)
        (source / split / "glad" / "b.jpg").write_bytes(b"a thumbnail")
        (source / split / ".DS_Store").touch()
    run("folders", source, tmp_path / "set")
    prepared = open_prepared(tmp_path / "set")
    assert prepared.classes == ("cross", "glad")
    assert [(clip.name, clip.label, clip.split) for clip in prepared.clips] == [
        (f"{folder}/{name}", label, split)
        for folder, split in (("Train", "train"), ("validation", "val"))
        for name, label in (("cross/a", "cross"), ("glad/b", "glad"), ("glad/c.avi", "glad"), ("glad/c.mkv", "glad"))
    ]
    sources = [row["source"] for row in frame_rows(tmp_path / "set", "Train/cross/a")]
    assert sources == [f"Train/cross/a/frame{number}.JPG" for number in (1, 2, 10)]
    assert prepared.partitions()[0].test == (4, 5, 6, 7)


def test_videos_of_all_suffixes_are_clips_and_what_is_none_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    images = source / "glad" / "frames"
    images.mkdir(parents=True)
    clip = write_pictures(tmp_path / "clip.avi", [draw_face("Happy", 1, 2)] * 2)
    for name in ("a.ts", "b.OGV", "c.gif", "d.m2ts", "e.mpe"):
        shutil.copy(clip, source / "glad" / name)
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(images / name), draw_face("Happy", 1, 2)[..., ::-1])
    for name in ("f.xyz", "song.mp3", "frames/preview.gif", "frames/times.txt", "../readme.txt", "../lost.mp4"):
        (source / "glad" / name).touch()
    (source / "glad" / ".DS_Store").touch()
    preparation = run("folders", source, tmp_path / "set")
    assert [row["clip"].removeprefix("glad/") for row in preparation.clips] == ["a", "b", "c", "d", "e", "frames"]
    assert {row["status"] for row in preparation.clips} == {"ok"}
    assert preparation.not_taken == (
        "glad/f.xyz",
        "glad/frames/preview.gif",
        "glad/frames/times.txt",
        "glad/song.mp3",
        "lost.mp4",
        "readme.txt",
    )
    listed = write_list(tmp_path / "list.csv", "video,label", "source/glad/frames,glad", "source/glad/a.ts,glad")
    listing = run("csv", listed, tmp_path / "listed")
    assert listing.not_taken == ("source/glad/frames/preview.gif", "source/glad/frames/times.txt")


def test_folders_without_splits(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "source" / label).mkdir(parents=True)
        write_pictures(tmp_path / "source" / label / "clip.avi", [draw_face("Happy", 1, 2)])
    run("folders", tmp_path / "source", tmp_path / "set")
    prepared = open_prepared(tmp_path / "set")
    assert [(clip.name, clip.split) for clip in prepared.clips] == [("a/clip", None), ("b/clip", None)]
    with pytest.raises(DataError, match=r"no folds and no splits .*; train and val are wanted"):
        prepared.partitions()


def write_list(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv(tmp_path: Path) -> None:
    for number in range(6):
        write_pictures(tmp_path / f"clip {number}.avi", [draw_face("Happy", 1, number)])
    folder = tmp_path / "lists" / "frames"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "1.png"), draw_face("Sad", 1, 9))
    source = write_list(
        tmp_path / "lists" / "list.csv",
        "\ufeffLabel, video ,who,subject,split",
        "Joy,../clip 0.avi,x,p2,train",
        "Fury,../clip 1.avi,x,p10,valid",
        ",../clip 2.avi,x,p10,train",
        f'Joy,"{tmp_path}/clip 3.avi",x,p1,',
        "Joy,../clip 4.avi,x,p1,test",
        "Fury,frames,x,p3,train",
    )
    run("csv", source, tmp_path / "set", folds=3)
    prepared = open_prepared(tmp_path / "set")
    assert prepared.classes == ("Fury", "Joy")
    absolute = str(tmp_path / "clip 3").lstrip("/")
    assert [(clip.name, clip.label, clip.subject, clip.fold, clip.split) for clip in prepared.clips] == [
        ("clip 0", "Joy", "p2", 2, "train"),
        ("clip 1", "Fury", "p10", 1, "val"),
        (absolute, "Joy", "p1", 1, None),
        ("clip 4", "Joy", "p1", 1, "test"),
        ("frames", "Fury", "p3", 3, "train"),
    ]
    assert files.read_settings(tmp_path / "set").without_label == 1
    assert len(prepared.partitions()) == 3


# Folds


def test_folds_take_every_tenth_person_and_nobody_twice(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=23, sequences=2, frames=1)
    run("ckplus", source, tmp_path / "set", folds=None)
    prepared = open_prepared(tmp_path / "set")
    assert prepared.folds == 10
    partitions = prepared.partitions()
    assert [partition.name for partition in partitions] == [f"fold-{number}" for number in range(1, 11)]
    tested = []
    for first, partition in enumerate(partitions):
        train, test = ({prepared.clips[index].subject for index in part} for part in (partition.train, partition.test))
        assert test == {f"S{number:03d}" for number in range(first, 23, 10)}
        assert not train & test
        assert sorted(partition.train + partition.test) == list(range(46))
        tested += partition.test
        assert prepared.fold(first + 1) == partition
    assert sorted(tested) == list(range(46))
    for number in (0, 11):
        with pytest.raises(DataError, match=rf"no fold {number}; its folds are 1 to 10"):
            prepared.fold(number)


def test_a_fold_without_a_face_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=3, sequences=1)
    for image in (source / "cohn-kanade-images" / "S001" / "001").iterdir():
        cv2.imwrite(str(image), np.zeros((80, 96), np.uint8))
    run("ckplus", source, tmp_path / "set", folds=3)
    prepared = open_prepared(tmp_path / "set")
    assert [clip.fold for clip in prepared.clips] == [1, 3]
    assert prepared.fold(3).test == (1,)
    for ask in (prepared.partitions, lambda: prepared.fold(2)):
        with pytest.raises(DataError, match="fold 2 of 3 has no clip to test on"):
            ask()
    (tmp_path / "other").mkdir()
    for image in (source / "cohn-kanade-images" / "S002" / "001").iterdir():
        cv2.imwrite(str(image), np.zeros((80, 96), np.uint8))
    run("ckplus", source, tmp_path / "other", folds=3)
    with pytest.raises(DataError, match="fold 1 of 3 has no clip to train on"):
        open_prepared(tmp_path / "other").fold(1)


# What is wrong with a source


def test_damaged_and_faceless_videos_are_listed_and_shift_no_label(tmp_path: Path) -> None:
    source = draw_afew(tmp_path / "source", train=1, val=1)
    run("afew", source, tmp_path / "whole")
    damaged, empty, faceless = (
        source / "Train_AFEW" / name for name in ("Angry/a.avi", "Fear/000000000.avi", "Happy/000000000.avi")
    )
    damaged.write_bytes(b"no video at all")
    empty.touch()
    blank(faceless)
    preparation = run("afew", source, tmp_path / "set")
    rows = clip_rows(tmp_path / "set")
    left_out = [row for row in rows.values() if row["status"] != "ok"]
    assert [(row["clip"], row["status"], row["frames"], row["faces"]) for row in left_out] == [
        ("Train_AFEW/Angry/a", "unreadable", "0", "0"),
        ("Train_AFEW/Fear/000000000", "unreadable", "0", "0"),
        ("Train_AFEW/Happy/000000000", "no face", "4", "0"),
    ]  # fmt: skip
    assert rows["Train_AFEW/Angry/a"]["message"] == "Train_AFEW/Angry/a.avi: not a video, or a damaged one"
    assert {row["status"] for row in frame_rows(tmp_path / "set", "Train_AFEW/Happy/000000000")} == {"no face"}
    assert len(preparation.clips) == 17
    whole, prepared = open_prepared(tmp_path / "whole"), open_prepared(tmp_path / "set")
    assert prepared.clips == whole.clips
    assert prepared.key != whole.key
    for clip in whole.clips:
        assert np.array_equal(prepared.crops(clip), whole.crops(clip))

    # Mended, it is looked at again.
    write_pictures(damaged, [draw_face("Angry", 1, 3)] * 2)
    assert run("afew", source, tmp_path / "set").found_done == 15
    assert clip_rows(tmp_path / "set")["Train_AFEW/Angry/a"]["faces"] == "2"


def test_a_video_that_ends_early_says_so(tmp_path: Path) -> None:
    source = draw_afew(tmp_path / "source", train=1, val=1, frames=40)
    video = source / "Train_AFEW" / "Happy" / "000000004.avi"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    run("afew", source, tmp_path / "set")
    row = clip_rows(tmp_path / "set")["Train_AFEW/Happy/000000004"]
    assert row["status"] == "ok"
    assert 0 < int(row["faces"]) < 40
    assert "incomplete or damaged" in row["message"]


def test_damaged_images_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=1, frames=6)
    for number in (1, 3, 6):
        (source / "cohn-kanade-images" / "S001" / "001" / f"S001_001_{number:08d}.png").write_bytes(b"dust")
    for image in (source / "cohn-kanade-images" / "S000" / "001").iterdir():
        image.write_bytes(b"dust")
    run("ckplus", source, tmp_path / "set")
    (clip,) = open_prepared(tmp_path / "set").clips
    assert (clip.name, clip.numbers) == ("S001/001", (1, 3, 4))
    frames = frame_rows(tmp_path / "set", "S001/001")
    assert [row["status"] for row in frames] == ["unreadable", "ok", "unreadable", "ok", "ok", "unreadable"]
    assert [float(row["time"]) for row in frames] == pytest.approx([number / 25 for number in range(6)])
    assert clip_rows(tmp_path / "set")["S001/001"]["message"].endswith("damaged one (and 2 more)")
    assert clip_rows(tmp_path / "set")["S000/001"]["status"] == "unreadable"


def test_no_face_anywhere(tmp_path: Path) -> None:
    (tmp_path / "source" / "a").mkdir(parents=True)
    blank(tmp_path / "source" / "a" / "clip.avi")
    with pytest.raises(DataError, match="drawn finds no face in any of the 1 clips"):
        run("folders", tmp_path / "source", tmp_path / "set")
    with pytest.raises(DataError, match="is not finished"):
        open_prepared(tmp_path / "set")


def test_ckplus_as_people_unpack_it(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=3, sequences=2, frames=2, unlabelled=0)
    run("ckplus", source, tmp_path / "whole")
    whole = open_prepared(tmp_path / "whole")
    images, labels = source / "cohn-kanade-images", source / "Emotion"
    (images / ".DS_Store").touch()
    (images / "S001" / "001" / ".DS_Store").touch()
    (images / "S001" / "001" / "Thumbs.db").touch()
    (labels / "S001" / ".DS_Store").touch()
    (labels / "S002").rename(labels / "s002")
    (source / "FACS").mkdir()
    (source / "extended").mkdir()
    images.rename(source / "extended" / "Cohn-Kanade-Images")
    (source / "Emotion_labels").mkdir()
    labels.rename(source / "Emotion_labels" / "emotion")
    run("ckplus", source, tmp_path / "set")
    assert open_prepared(tmp_path / "set").clips == whole.clips

    # A subject without labels at all, an incomplete sequence, and labels whose images are missing.
    images, labels = source / "extended" / "Cohn-Kanade-Images", source / "Emotion_labels" / "emotion"
    for number in (1, 2):
        next((labels / "S000" / f"00{number}").iterdir()).unlink()
    (labels / "S000" / "001").rmdir()
    (images / "S001" / "001" / "S001_001_00000002.png").unlink()
    (images / "S001" / "002").rename(tmp_path / "away")
    run("ckplus", source, tmp_path / "less")
    rows = clip_rows(tmp_path / "less")
    assert list(rows) == ["S001/001", "S001/002", "S002/001", "S002/002"]
    assert (
        rows["S001/001"]["message"] == "the label is that of s001_001_00000002, the last image is S001_001_00000001.png"
    )
    assert (rows["S001/002"]["status"], rows["S001/002"]["message"]) == (
        "unreadable",
        "extended/Cohn-Kanade-Images/S001/002: there is no image; there is a label and no folder of images",
    )
    assert files.read_settings(tmp_path / "less").without_label == 2


def test_labels_of_ckplus_that_cannot_be_read(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=1)
    label = next((source / "Emotion" / "S001" / "001").iterdir())
    for text in ("   8.0000000e+00", "0", "2.5", "", "nan", "happy"):
        label.write_text(text)
        with pytest.raises(DataError, match=r"_emotion\.txt: holds '.*'; an emotion's code is wanted: 1 Angry, 2 Cont"):
            run("ckplus", source, tmp_path / "set")
    label.with_name("S001_001_00000001_emotion.txt").write_text("1")
    with pytest.raises(DataError, match="holds 2 labels"):
        run("ckplus", source, tmp_path / "set")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources of all kinds by name; refusals leave them as they are."""
    folder = tmp_path_factory.mktemp("sources")
    draw_ckplus(folder / "ckplus", subjects=2, sequences=1)
    draw_afew(folder / "afew", train=1, val=1)
    draw_afew(folder / "half", train=1, val=0)
    (folder / "empty").mkdir()
    (folder / "no labels" / "cohn-kanade-images" / "S000" / "001").mkdir(parents=True)
    (folder / "no labels" / "Emotion").mkdir()
    draw_afew(folder / "strange", train=1, val=1)
    (folder / "strange" / "Val_AFEW" / "Sad").rename(folder / "strange" / "Val_AFEW" / "Gloomy")
    for name in ("mixed/train/a", "mixed/b", "loose/a", "case/train/Joy", "case/val/joy"):
        (folder / name).mkdir(parents=True)
        blank(folder / name / "clip.avi", 1)
    cv2.imwrite(str(folder / "loose" / "a" / "1.png"), draw_face("Sad", 1, 1))
    (folder / "loose" / "a" / "clip.avi").unlink()
    blank(folder / "x.avi")
    blank(folder / "y.avi")
    lists = {
        "columns": ["file,label", "x.avi,Joy"],
        "nothing": ["video,label"],
        "twice": ["video,label", "x.avi,Joy", "./x.avi,Joy"],
        "split": ["video,label,split", "x.avi,Joy,development"],
        "unnamed": ["video,label", ",Joy"],
        "missing": ["video,label", "a.avi,Joy", "b.avi,Joy"],
        "spelling": ["video,label", "x.avi,Joy", "y.avi,joy"],
        "good": ["video,label,subject", "x.avi,Joy,a", "y.avi,Joy,"],
        "quote": ["video,label", '"x.avi,Joy'],
        "nested": ["video,label", "ckplus/cohn-kanade-images/S000/001,Joy", "ckplus/cohn-kanade-images/S000,Joy"],
    }
    for name, lines in lists.items():
        write_list(folder / f"{name}.csv", *lines)
    (folder / "latin.csv").write_bytes("video,label\nx.avi,Fröhlich\n".encode("latin-1"))
    return folder


@pytest.mark.parametrize(
    ("layout", "source", "message"),
    [
        ("ckplus", "afew", r"there is no folder cohn-kanade-images; wanted .*; found Train_AFEW, Val_AFEW$"),
        ("ckplus", "empty", r"no folder cohn-kanade-images; .*; found nothing$"),
        ("ckplus", "no labels", r"Emotion: not the ckplus layout, there is no label file in it"),
        ("ckplus", "x.avi", r"x\.avi: is a file; ckplus wants a folder"),
        ("ckplus", "absent", r"absent: no such folder"),
        ("afew", "ckplus", r"there is no folder Train_AFEW; wanted .*; found Emotion, cohn-kanade-images$"),
        ("afew", "half", r"Val_AFEW: not the afew layout, there is no video in it; .*; found Angry, .*, \.\.\.$"),
        ("afew", "strange", r"Gloomy: is not named after an emotion; wanted: Angry, Disgust"),
        (
            "folders",
            "ckplus",
            r"S000: not the folders layout, there are clips one level too deep; wanted CLASS/\*\.mp4",
        ),
        ("folders", "afew", r"Train_AFEW/Angry: not the folders layout, there are clips one level too deep"),
        ("folders", "empty", r"no folder in it holds clips; wanted CLASS/\*\.mp4 .*; found nothing$"),
        ("folders", "mixed", r"holds train, a split, beside b, a class"),
        ("folders", "loose", r"loose/a: not the folders layout, its images are in no clip's folder"),
        ("folders", "case", r"the labels Joy and joy differ in case alone"),
        ("csv", "ckplus", r"is a folder; csv wants a CSV file"),
        ("csv", "absent", r"no such file; csv wants a CSV file"),
        ("csv", "columns.csv", r"no column video \(its columns are file, label\); video,label\[,split,"),
        ("csv", "nothing.csv", r"lists no video with a label"),
        ("csv", "twice.csv", r"line 3: \./x\.avi is listed in line 2 already"),
        ("csv", "split.csv", r"line 2: split 'development' is unknown; wanted train, val or test"),
        ("csv", "unnamed.csv", r"line 2 names no video"),
        ("csv", "missing.csv", r"none of its 2 videos exists \(.*a\.avi, \.\.\.\); paths are relative"),
        ("csv", "spelling.csv", r"the labels Joy and joy differ in case alone"),
        ("csv", "quote.csv", r"quote\.csv: line \d: unexpected end of data"),
        ("csv", "nested.csv", r"clips .*S000 and .*S000/001 cannot be told apart"),
        ("csv", "latin.csv", r"not a CSV file in UTF-8 \(line 2: "),
        ("csv", "x.avi", r"x\.avi: not a CSV file in UTF-8"),
        ("lfw", "ckplus", r"layout 'lfw' is unknown; wanted: ckplus, afew, folders, csv$"),
    ],
)
def test_wrong_layouts_are_refused(sources: Path, tmp_path: Path, layout: str, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        run(layout, sources / source, tmp_path / "set")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("layout", "source", "options", "message"),
    [
        ("ckplus", "ckplus", {"folds": None}, r"10 folds of 2 subjects; at most one fold a subject is wanted"),
        ("ckplus", "ckplus", {"folds": 1}, r"1 fold: at least 2 are wanted"),
        ("afew", "afew", {"folds": 2}, r"Train_AFEW/Angry/000000001 has no subject"),
        ("csv", "good.csv", {"folds": 2}, r"y has no subject"),
        ("afew", "afew", {"size": 8}, r"size 8: a side of 16 to 1024 pixels is wanted"),
        ("afew", "afew", {"detector": "dlib"}, r"detector 'dlib' is unknown; wanted: mtcnn, or yunet:FILE"),
    ],
)
def test_wrong_settings_are_refused(
    sources: Path, tmp_path: Path, layout: str, source: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises((DataError, DetectorError), match=message):
        run(layout, sources / source, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


# The target


def test_a_target_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=2)
    run("ckplus", source, tmp_path / "set")
    before = tree(tmp_path / "set")
    with pytest.raises(DataError, match=r"made with other settings \(size 32 -> 48\); use those, or another folder"):
        run("ckplus", source, tmp_path / "set", size=48)
    other = draw_afew(tmp_path / "other", train=1, val=1)
    with pytest.raises(DataError, match=r"\(layout ckplus -> afew, folds 2 -> None\)"):
        run("afew", other, tmp_path / "set")
    next((source / "Emotion" / "S001" / "002").iterdir()).unlink()
    with pytest.raises(DataError, match=r"holds the clip S001/002, which is not in "):
        run("ckplus", source, tmp_path / "set")
    assert tree(tmp_path / "set") == before

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("words")
    with pytest.raises(DataError, match="holds files and is no prepared set"):
        run("ckplus", source, tmp_path / "full")
    assert names(tmp_path / "full") == ["thesis.txt"]
    with pytest.raises(DataError, match="is a file"):
        run("ckplus", source, tmp_path / "full" / "thesis.txt")
    for target in (source, source / "Emotion" / "set", tmp_path):
        with pytest.raises(DataError, match="must not lie in each other"):
            run("ckplus", source, target)
    with pytest.raises(OutputError, match="cannot be made"):
        run("ckplus", source, Path("/proc/set"))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=1)
    (tmp_path / "set").mkdir()
    handle = os.open(tmp_path / "set", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another fan-fer prepare is at work there"):
        run("ckplus", source, tmp_path / "set")
    os.close(handle)
    run("ckplus", source, tmp_path / "set")


def test_new_clips_are_added_and_lost_crops_made_again(tmp_path: Path) -> None:
    for number in range(3):
        write_pictures(tmp_path / f"{number}.avi", [draw_face("Happy", 1, number)] * 2)
    lines = ["video,label", "2.avi,Joy", "0.avi,Joy"]
    source = write_list(tmp_path / "list.csv", *lines)
    run("csv", source, tmp_path / "set")
    write_list(source, *lines, "1.avi,Fury")
    (tmp_path / "set" / "crops" / "0" / "000001.png").unlink()
    with pytest.raises(DataError, match=r"000001\.png: is missing"):
        open_prepared(tmp_path / "set")
    preparation = run("csv", source, tmp_path / "set")
    assert preparation.found_done == 1
    assert preparation.settings.classes == ("Fury", "Joy")
    run("csv", source, tmp_path / "fresh")
    assert tree(tmp_path / "set") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("change", ["lost", "gained"])
def test_a_clip_whose_images_are_no_longer_the_same_is_refused(tmp_path: Path, change: str) -> None:
    source = draw_ckplus(tmp_path / "ckplus", subjects=2, sequences=1)
    prepare("ckplus", source, tmp_path / "set", size=CROP, detector=DrawnFaces(), folds=2)
    before = (tmp_path / "set" / "frames.csv").read_bytes()
    images = source / "cohn-kanade-images" / "S001" / "001"
    if change == "lost":
        (images / "S001_001_00000002.png").unlink()
    else:
        shutil.copy(images / "S001_001_00000002.png", images / "S001_001_00000002b.png")
    wanted = rf"S001/001 was done when it had 4 images, in .*ckplus it has {3 if change == 'lost' else 5}; another"
    with pytest.raises(DataError, match=wanted):
        prepare("ckplus", source, tmp_path / "set", size=CROP, detector=DrawnFaces(), folds=2)
    assert (tmp_path / "set" / "frames.csv").read_bytes() == before
    open_prepared(tmp_path / "set")


def test_a_set_that_lies_elsewhere_is_the_same(tmp_path: Path) -> None:
    first = prepared_ckplus(tmp_path / "a", subjects=2, sequences=1)
    second = prepared_ckplus(tmp_path / "b" / "c", subjects=2, sequences=1)
    assert tree(first) == tree(second)
    assert open_prepared(first).key == open_prepared(second).key


# Damaged sets


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("set.json", None, r"is no prepared set \(it has no set\.json\)"),
        ("set.json", b"{", r"set\.json: damaged"),
        ("set.json", b"[]", r"set\.json: damaged"),
        ("set.json", b'{"format_version": 1}', r"set\.json: damaged"),
        ("set.json", b'{"format_version": 2}', r"has format version 2; this fan-fer reads 1"),
        ("clips.csv", None, r"clips\.csv: cannot be read \(No such file.*\); the prepared set is damaged"),
        ("clips.csv", b"clip,label\n", r"clips\.csv: the columns are not clip, label, split"),
        (
            "frames.csv",
            b"".join([",".join(FRAME_COLUMNS).encode(), b"\n"]),
            r"S000/001: clips\.csv and frames\.csv do not",
        ),
        ("crops/S000/001/000001.png", None, r"000001\.png: is missing"),
    ],
)
def test_damaged_sets_are_refused(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    folder = prepared_ckplus(tmp_path, subjects=2, sequences=1)
    path = folder / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message) as refusal:
        open_prepared(folder)
    assert "\n" not in str(refusal.value)


def test_rows_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = prepared_ckplus(tmp_path, subjects=2, sequences=1)
    path = folder / "clips.csv"
    text = path.read_text()
    for old, new, message in (
        (",Angry,", ",Bored,", "label 'Bored' is not one of Angry, Contempt"),
        (",4,4,", ",4,3,", "do not agree on its faces"),
        ("S000,1,", "S000,one,", "prepared set is damaged"),
        ("S000,1,", "S000,", "line 2 has 9 of 10 cells; the prepared set is damaged"),
        ("S000/001,", '"S000/001,', "unexpected end of data"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(DataError, match=message):
            open_prepared(folder)


def test_crops_that_cannot_be_read(tmp_path: Path) -> None:
    prepared = open_prepared(prepared_ckplus(tmp_path, subjects=2, sequences=1))
    clip = prepared.clips[0]
    path = prepared.crop_path(clip, 2)
    with pytest.raises(ValueError, match="frame 4 of S000/001 has no crop"):
        prepared.crops(clip, [4])
    for content in (path.read_bytes()[:100], b"", cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"000002\.png: is no picture of 32 x 32 pixels"):
            prepared.crops(clip)
    path.unlink()
    with pytest.raises(DataError, match=r"000002\.png: is missing"):
        prepared.crops(clip)
    assert prepared.crops(clip, [0, 3]).shape == (2, CROP, CROP, 3)


# Interruptions


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        (extraction, "_write_png", 1),
        (extraction, "_write_png", 6),  # in the second clip
        (extraction.Task, "_put", 1),
        (extraction.Task, "_put", 4),
        (files, "write_text", 1),
        (preparing, "write_rows", 1),
        (preparing, "write_rows", 2),
        (preparing, "write_settings", 2),
    ],
)
def test_interrupted_anywhere_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, function: str, call: int
) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=2)
    run("ckplus", source, tmp_path / "whole")
    original, calls = getattr(module, function), []

    def interrupted(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("ckplus", source, tmp_path / "set")
    with pytest.raises(DataError, match=r"not finished|no prepared set"):
        open_prepared(tmp_path / "set")
    run("ckplus", source, tmp_path / "set")
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_ends_with_its_workers_and_the_next_goes_on(tmp_path: Path, end: signal.Signals) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=6, sequences=3)
    run("ckplus", source, tmp_path / "whole")
    options = ["prepare", "--layout", "ckplus", "--size", str(CROP), "--folds", "2", "--workers", "2"]
    process = start_command(tmp_path, [*options, str(source), str(tmp_path / "set")])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "set").glob("crops/*/*/record.json"))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    out, err = end_command(process, end)
    if end == signal.SIGINT:
        assert (process.returncode, out, err) == (INTERRUPTED, "", "fan-fer: interrupted\n")
        assert not (tmp_path / "set" / ".partial").exists()
    wait_for_workers(process, deadline)
    assert 3 <= len(list((tmp_path / "set").glob("crops/*/*/record.json"))) < 18
    with pytest.raises(DataError, match="not finished"):
        open_prepared(tmp_path / "set")
    assert run("ckplus", source, tmp_path / "set").found_done >= 3
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


def test_the_number_of_workers_does_not_show(tmp_path: Path) -> None:
    source = draw_afew(tmp_path / "source", train=1, val=1)
    (source / "Train_AFEW" / "Sad" / "a.avi").write_bytes(b"dust")
    for workers in (0, 1, 2):
        run("afew", source, tmp_path / str(workers), workers=workers)
    assert tree(tmp_path / "0") == tree(tmp_path / "1") == tree(tmp_path / "2")


def test_a_worker_that_dies_is_named_by_its_clip(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=2)
    run("ckplus", source, tmp_path / "whole")
    mortal = DrawnFaces(dies=tmp_path / "died")
    with pytest.raises(FanFerError, match=r"^a worker process died while at work on S00\d/00\d.*goes on") as death:
        run("ckplus", source, tmp_path / "set", detector=mortal, workers=1)
    assert "\n" not in str(death.value)
    run("ckplus", source, tmp_path / "set", detector=mortal, workers=1)
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=1)

    def full(path: Path, crop: np.ndarray) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(extraction, "_write_png", full)
    with pytest.raises(OutputError, match=r"face-0\.png: cannot be written \(No space left on device\)"):
        run("ckplus", source, tmp_path / "set")


# The command line


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fan-fer prepare` in this process with drawn faces; gives exit code, stdout, stderr."""
    monkeypatch.setattr(preparing, "load_detector", lambda spec, device=None: DrawnFaces())
    monkeypatch.setattr(
        preparing,
        "extract_in_processes",
        lambda task, _, clips, workers: preparing.extract_here(task, DrawnFaces(), clips),
    )

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["prepare", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_summary_of_folds(command, tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=3, sequences=2)
    code, out, err = command("--layout", "ckplus", source, tmp_path / "set", "--size", CROP, "--folds", 2)
    assert (code, err) == (DONE, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["Contempt", "2", "8", "8"] in lines
    assert ["Sad", "0", "0", "0"] in lines
    assert ["all", "6", "24", "24"] in lines
    assert ["1", "4", "2", "S000", "S002"] in lines
    assert ["2", "2", "1", "S001"] in lines
    assert "1 skipped, the source gives them no label" in out
    assert "6 clips, 24 frames, 24 with a face (100.0%)" in out
    assert "6 clips (6 were done before)" in command(
        "--layout", "ckplus", source, tmp_path / "set", "--size", CROP, "--folds", 2
    )[1]  # fmt: skip


def test_summary_of_splits_and_of_what_was_left_out(command, tmp_path: Path) -> None:
    source = draw_afew(tmp_path / "source", train=2, val=1)
    (source / "Val_AFEW" / "Fear" / "a.avi").write_bytes(b"dust")
    blank(source / "Val_AFEW" / "Fear" / "b.avi")
    (source / "Val_AFEW" / "Fear" / "notes.txt").touch()
    code, out, err = command("--layout", "afew", source, tmp_path / "set", "--size", CROP)
    assert code == DONE
    assert ["Fear", "2", "1", "3", "18", "18"] in [line.split() for line in out.splitlines()]
    assert "1 without a face, left out: Val_AFEW/Fear/b" in out
    assert "1 unreadable, left out: Val_AFEW/Fear/a" in out
    assert "3 files were not taken: Train_AFEW/frames.csv, Val_AFEW/Fear/notes.txt, Val_AFEW/frames.csv" in out
    assert err == "fan-fer: warning: Val_AFEW/Fear/a: Val_AFEW/Fear/a.avi: not a video, or a damaged one\n"


def test_errors_are_one_line(command, tmp_path: Path) -> None:
    source = draw_afew(tmp_path / "source", train=1, val=1)
    for arguments, message in (
        (["--layout", "ckplus"], "there is no folder cohn-kanade-images"),
        (["--layout", "afew", "--workers", 0], "--workers 0: at least 1 is wanted"),
        (["--layout", "afew", "--size", 2], "size 2: "),
    ):
        code, out, err = command(*arguments, source, tmp_path / "set")
        assert (code, out, err.count("\n")) == (BAD_INPUT, "", 1)
        assert err.startswith("fan-fer: error: ")
        assert message in err


def test_a_real_face_through_the_real_command(clips: Path, tmp_path: Path) -> None:
    """MTCNN in a worker process sees what the recognizer sees."""
    from fan_fer import load_recognizer

    video = clips / "single_face.mp4"
    source = write_list(tmp_path / "list.csv", "video,label", f"{video},Joy")
    program = [sys.executable, "-m", "fan_fer", "prepare", "--layout", "csv", "--size", "64", "--workers", "1"]
    subprocess.run([*program, source, tmp_path / "set"], check=True, timeout=120)
    prediction = load_recognizer().predict(video)
    with (tmp_path / "set" / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == prediction.frames_total
    for row, frame in zip(rows, prediction.frames, strict=True):
        assert (row["status"] == "ok") == (frame.box is not None)
        if frame.box is not None:
            assert [float(row[name]) for name in ("x", "y", "width", "height")] == pytest.approx(frame.box, abs=1e-3)
