"""Preparing a data set: what is written, folds, damaged clips, other people's folders, kills, and many processes."""

from __future__ import annotations

import csv
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_faces import DrawnFaces, draw_face

from fan_fer.base.errors import DataError, DetectorError, OutputError
from fan_fer.cli import main as cli
from fan_fer.cli.outcome import BAD_INPUT, DONE, INTERRUPTED
from fan_fer.datasets import extraction, files
from fan_fer.datasets import prepare as preparing
from fan_fer.datasets.files import CLIP_COLUMNS, FRAME_COLUMNS, read_rows
from fan_fer.datasets.layouts import read_source
from fan_fer.datasets.prepare import Preparation, prepare
from fan_fer.datasets.prepared import find_partition, open_prepared
from fan_fer.faces.align import align_face
from fan_fer.faces.face import Face
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
    with pytest.raises(DataError, match=r"no folds and no splits .*; train and val \(or test\) are wanted"):
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


# Spellings

SPELLINGS = (
    "Fe\u0301roce",
    "F\u00e9roce",
    "f\u00e9roce ",
    "FE\u0301ROCE",
    "\u200bFéroce",
    "F\u00e9\u00adroce\u00a0",
    "\uff26éroce",
)


def touched(folder: Path, *videos: str) -> Path:
    """Files that are videos by their names; no layout opens them."""
    for video in videos:
        (folder / video).parent.mkdir(parents=True, exist_ok=True)
        (folder / video).touch()
    return folder


def test_a_label_is_one_class_in_all_its_spellings(tmp_path: Path) -> None:
    """Folders that came from a Mac or were typed twice, and cells of a list."""
    folders = touched(tmp_path / "folders", *(f"{name}/{n}.mp4" for n, name in enumerate(SPELLINGS)), "Joy/x.mp4")
    rows = [f'{n}.mp4,"{name}",{name}' for n, name in enumerate(SPELLINGS)]
    table = write_list(tmp_path / "list.csv", "video, LABEL,note", *rows, "x.mp4,Joy,")
    touched(tmp_path, *(f"{n}.mp4" for n in range(len(SPELLINGS))))
    for layout, path, kept in (("folders", folders, "FÉROCE"), ("csv", table, "Féroce")):
        source = read_source(layout, path)
        assert source.classes == (kept, "Joy")
        assert sorted(clip.label for clip in source.clips) == [kept] * len(SPELLINGS) + ["Joy"]
        (note,) = source.notes
        assert '"Féroce"' in note
        assert r'"Fe\u0301roce"' in note
        assert note.endswith(f": taken for one, {kept}")
    assert {(folders / clip.source).is_file() for clip in read_source("folders", folders).clips} == {True}
    assert read_source("csv", write_list(table, "video,label", "0.mp4,Joy", "1.mp4, Joy")).notes == ()


def test_the_first_spelling_of_a_label_is_kept(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4")
    for first, second in (("happy", "Happy"), ("Happy", "HAPPY")):
        source = read_source(
            "csv", write_list(tmp_path / "list.csv", "video,label", f"a.mp4,{first}", f"b.mp4,{second}")
        )
        assert (source.classes, source.notes) == ((first,), (f'labels "{first}", "{second}": taken for one, {first}',))


def test_splits_and_emotions_in_any_spelling(tmp_path: Path) -> None:
    folders = touched(tmp_path / "folders", "Train /Joy/a.mp4", "VALIDATION/joy\u00a0/b.mp4", "te\u200bst/JOY/c.mp4")
    assert {clip.split: clip.label for clip in read_source("folders", folders).clips} == {
        "train": "JOY", "val": "JOY", "test": "JOY",
    }  # fmt: skip
    afew = touched(tmp_path / "afew", "train_afew/HAPPY/a.avi", "Val_AFEW /happy /b.avi")
    source = read_source("afew", afew)
    assert [(clip.name, clip.label, clip.split) for clip in source.clips] == [
        ("Train_AFEW/Happy/a", "Happy", "train"),
        ("Val_AFEW/Happy/b", "Happy", "val"),
    ]
    assert source.notes == ('labels "HAPPY", "happy ": taken for one, Happy',)
    touched(tmp_path, "a.mp4", "b.mp4")
    table = write_list(tmp_path / "list.csv", "video,label,Split", "a.mp4,x,\u00a0Train", "b.mp4,x,Valid\u200b")
    assert [clip.split for clip in read_source("csv", table).clips] == ["train", "val"]


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    touched(tmp_path / "afew", "Train_AFEW/Sad/a.avi", "train_afew/Sad/b.avi", "Val_AFEW/Sad/c.avi")
    with pytest.raises(DataError, match=r"train_afew: bears the same name as .*Train_AFEW; one folder Train_AFEW is"):
        read_source("afew", tmp_path / "afew")
    ckplus = draw_ckplus(tmp_path / "ckplus", subjects=2, sequences=1, frames=1)
    touched(ckplus, "cohn-kanade-images/s000/001/x.png")
    with pytest.raises(DataError, match=r"s000/001: is the same sequence as .*S000/001; one of them is wanted"):
        read_source("ckplus", ckplus)


def test_labels_of_ckplus_as_editors_save_them(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=3, sequences=1, frames=1)
    for encoding, file in zip(("utf-8-sig", "utf-16", "utf-16-le"), sorted(source.rglob("*.txt")), strict=True):
        file.write_text("   5.0000000e+00\n", encoding)
    assert {clip.label for clip in read_source("ckplus", source, 2).clips} == {"Happy"}


@pytest.mark.parametrize(
    "spellings",
    [("p1", "P1", "p01", "p-1", "p_1", "P 1"), ("1", "01", "1.0", "\uff11", "1\u200b"), ("S005", "s005", "S5", "s_005"),
     ("Zoe\u0308", "Zo\u00eb", "ZOË"), ("Anna Lee", "anna-lee", "Anna  Lee")],
)  # fmt: skip
def test_a_person_is_in_one_fold_in_all_spellings(tmp_path: Path, spellings: tuple[str, ...]) -> None:
    others = ("x", "p2", "10", "S050", "Zoe", "annalee")
    persons = [*spellings, *others]
    touched(tmp_path, *(f"{n}.mp4" for n in range(len(persons))))
    rows = [f"{n}.mp4,Joy,{person}" for n, person in enumerate(persons)]
    source = read_source("csv", write_list(tmp_path / "list.csv", "video,label,Subject", *rows), folds=7)
    assert len({clip.fold for clip in source.clips[: len(spellings)]}) == 1
    kept = unicodedata.normalize("NFC", spellings[0])
    assert {clip.subject for clip in source.clips[: len(spellings)]} == {kept}
    assert [clip.subject for clip in source.clips[len(spellings) :]] == list(others)
    assert sorted({clip.fold for clip in source.clips}) == list(range(1, 8))
    assert [note for note in source.notes if note.startswith("persons ") and note.endswith(f"one, {kept}")]


def test_subjects_of_ckplus_in_two_cases_are_one_person(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=3, sequences=2, frames=1)
    pictures = source / "cohn-kanade-images"
    (pictures / "s001").mkdir()
    (pictures / "S001" / "002").rename(pictures / "s001" / "002")
    found = read_source("ckplus", source, 3)
    assert {clip.name: clip.fold for clip in found.clips if clip.fold == 2} == {"S001/001": 2, "s001/002": 2}
    assert found.notes == ('persons "S001", "s001": taken for one, S001',)


def test_a_subject_of_many_digits_is_no_number_to_python(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4")
    rows = (f"a.mp4,Joy,{'9' * 5000}", "b.mp4,Joy,12")
    clips = read_source("csv", write_list(tmp_path / "list.csv", "video,label,subject", *rows), folds=2).clips
    assert [clip.fold for clip in clips] == [2, 1]


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


def test_a_detector_whose_numbers_are_none_ends_the_work(tmp_path: Path) -> None:
    class Broken(DrawnFaces):
        def detect(self, image: np.ndarray) -> list[Face]:
            return [replace(face, score=float("nan")) for face in super().detect(image)]

    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=1)
    with pytest.raises(DetectorError, match=r"^detector .*: its face in frame 0 has numbers that are not finite$"):
        run("ckplus", source, tmp_path / "set", detector=Broken())


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
    for name in ("mixed/train/a", "mixed/b", "loose/a"):
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
        ("csv", "ckplus", r"is a folder; csv wants a CSV file"),
        ("csv", "absent", r"no such file; csv wants a CSV file"),
        ("csv", "columns.csv", r"no column video \(its columns are file, label\); video,label\[,split,"),
        ("csv", "nothing.csv", r"lists no video with a label"),
        ("csv", "twice.csv", r"line 3: \./x\.avi is listed in line 2 already"),
        ("csv", "split.csv", r"line 2: split 'development' is unknown; wanted train, val or test"),
        ("csv", "unnamed.csv", r"line 2 names no video"),
        ("csv", "missing.csv", r"none of its 2 videos exists \(.*a\.avi, \.\.\.\); paths are relative"),
        ("csv", "quote.csv", r"quote\.csv: line 2: column video: the quote that opens here is not closed"),
        ("csv", "nested.csv", r"clips .*S000 and .*S000/001 cannot be told apart"),
        ("csv", "latin.csv", r"not a CSV file in UTF-8 \(line 2: "),
        ("csv", "x.avi", r"x\.avi: not a CSV file in UTF-8"),
        ("lfw", "ckplus", r"layout 'lfw' is unknown; wanted: crema-d, .*, folders, csv$"),
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
        ("ckplus", "ckplus", {"folds": 10}, r"10 folds of 2 subjects; at most one fold a subject is wanted"),
        ("ckplus", "ckplus", {"folds": 1}, r"1 fold: at least 2 are wanted"),
        ("afew", "afew", {"folds": 2}, r"Train_AFEW/Angry/000000001 has no subject"),
        ("csv", "good.csv", {"folds": 2}, r"y has no subject"),
        ("afew", "afew", {"size": 8}, r"size 8: a side of 16 to 1024 pixels is wanted"),
        ("afew", "afew", {"detector": "dlib"}, r"detector 'dlib' is unknown; wanted: mtcnn, yunet:FILE"),
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
    with pytest.raises(DataError, match=r"\(layout ckplus -> afew\)"):
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
        ("S000/001,", '"S000/001,', "line 2: column clip: the quote that opens here is not closed"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(DataError, match=message):
            open_prepared(folder)


def test_no_number_of_a_set_is_none(tmp_path: Path) -> None:
    folder = prepared_ckplus(tmp_path, subjects=2, sequences=1)
    settings, frames = (folder / "set.json").read_text(), (folder / "frames.csv").read_text()
    for number in ("NaN", "-Infinity", "1e999"):
        (folder / "set.json").write_text(re.sub(r"0\.331[0-9]*", number, settings, count=1))
        with pytest.raises(DataError, match=r"set\.json: damaged"):
            open_prepared(folder)
    (folder / "set.json").write_text(settings, "utf-8-sig")  # as some editors save it
    assert len(open_prepared(folder).clips) == 2
    for number in ("nan", "-inf"):
        (folder / "frames.csv").write_text(re.sub(r"(,ok,)[^,]*", rf"\g<1>{number}", frames, count=1))
        with pytest.raises(DataError, match=r"frames\.csv: S000/001: frame 0 has a number that is not finite"):
            open_prepared(folder)


def test_partitions_are_found_in_any_spelling(tmp_path: Path) -> None:
    folds = open_prepared(prepared_ckplus(tmp_path, subjects=2, sequences=1))
    assert {find_partition(folds, name).name for name in ("fold-2", "Fold-02", " fold 2")} == {"fold-2"}
    for name, message in (("fold-3", "no fold 3"), ("fold-" + "9" * 5000, "no partition"), ("val", "it has fold-1")):
        with pytest.raises(DataError, match=message):
            find_partition(folds, name)


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
        (files, "write_json", 1),
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


def test_a_worker_that_dies_is_replaced_and_a_deadly_clip_cannot_be_read(tmp_path: Path) -> None:
    source = draw_ckplus(tmp_path / "source", subjects=2, sequences=2)
    run("ckplus", source, tmp_path / "whole")
    run("ckplus", source, tmp_path / "set", detector=DrawnFaces(dies=tmp_path / "died"), workers=1)
    assert (tmp_path / "died").exists()
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")

    sequence = source / "cohn-kanade-images" / "S001" / "001"
    for picture in sequence.iterdir():
        cv2.imwrite(str(picture), np.full((80, 96, 3), 255, np.uint8))
    clips = run("ckplus", source, tmp_path / "deadly", detector=DrawnFaces(deadly=True), workers=2).clips
    (row,) = (row for row in clips if row["status"] != "ok")
    assert (row["clip"], row["status"]) == ("S001/001", "unreadable")
    assert row["message"] == "its process died (SIGKILL), 2 times; perhaps memory ran out"
    assert not (tmp_path / "deadly" / ".partial").exists()


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
        lambda task, _, clips, workers, limit: preparing.extract_here(task, DrawnFaces(), clips),
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


def test_summary_names_the_spellings_that_were_taken_for_one(command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pictures(tmp_path / f"{name}.avi", [draw_face("Happy", 1, 1)])
    rows = ("a.avi,Joy,p1", "b.avi,joy\u200b,P01")
    source = write_list(tmp_path / "list.csv", "video,label,subject", *rows)
    code, out, err = command("--layout", "csv", source, tmp_path / "set", "--size", CROP)
    assert (code, err) == (DONE, "")
    assert 'labels "Joy", "joy": taken for one, Joy' in out
    assert 'persons "p1", "P01": taken for one, p1' in out
    assert {(row["label"], row["subject"]) for row in clip_rows(tmp_path / "set").values()} == {("Joy", "p1")}


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
