"""Sets as their publishers lay them out, as people's copies look, and which classes and folds are made of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from drawn_faces import DrawnFaces

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError
from fan_fer.base.terminal import show
from fan_fer.datasets.layouts import read_source
from fan_fer.datasets.listing import Source
from fan_fer.datasets.prepare import prepare
from fan_fer.datasets.prepared import PreparedSet, open_prepared
from fan_fer.datasets.report import summary

from ..drawn_sets import CROP, draw_crema_d, draw_dfew, draw_ravdess


def touched(folder: Path, *files: str) -> Path:
    """Files that are videos or pictures by their names; reading a source opens none."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def prepared(layout: str, source: Path, target: Path, **options: object) -> PreparedSet:
    prepare(layout, source, target, size=CROP, detector=DrawnFaces(), **options)
    return open_prepared(target)


def found(source: Source) -> list[tuple[str, str, str | None, int | None]]:
    return [(clip.name, clip.label, clip.subject, clip.fold) for clip in source.clips]


# CREMA-D


def test_crema_d(tmp_path: Path) -> None:
    made = prepared("crema-d", draw_crema_d(tmp_path / "source"), tmp_path / "set")
    assert made.classes == ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad")
    assert made.folds == 5
    assert [(clip.name, clip.label, clip.subject, clip.fold) for clip in made.clips[5:8]] == [
        ("1001/1001_DFA_SAD_XX", "Sad", "1001", 1),
        ("1002/1002_DFA_ANG_XX", "Angry", "1002", 2),
        ("1002/1002_DFA_DIS_XX", "Disgust", "1002", 2),
    ]
    for partition in made.partitions():
        people = [{made.clips[index].subject for index in part} for part in (partition.train, partition.test)]
        assert len(people[1]) == 1
        assert not people[0] & people[1]


def test_copies_of_crema_d(tmp_path: Path) -> None:
    """Other case, converted beside the original, copies that a browser numbers, leavings of a Mac, sound."""
    root = touched(
        tmp_path / "CREMA-D",
        "videoflash/1001_dfa_ang_xx.FLV",
        "VideoMP4/1001_DFA_ANG_XX.mp4",
        "VideoFlash/1002_IEO_HAP_HI.flv",
        "VideoFlash/1002_IEO_HAP_HI (1).flv",
        "VideoFlash/._1002_IEO_HAP_HI.flv",
        "VideoFlash/.DS_Store",
        "VideoFlash/1003_ITH_SAD_X.flv",
        "VideoFlash/1004_ITH_JOY_XX.flv",
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "SentenceFilenames.csv",
    )
    source = read_source("crema-d", root, folds=3)
    assert found(source) == [
        ("1001/1001_DFA_ANG_XX", "Angry", "1001", 1),
        ("1002/1002_IEO_HAP_HI", "Happy", "1002", 2),
        ("1003/1003_ITH_SAD_X", "Sad", "1003", 3),
    ]
    assert all((root / clip.source).is_file() for clip in source.clips)
    assert source.notes == (
        "3 of the 7442 clips of CREMA-D are there",
        "more files of the same takes, each of which counts once: 1 as copies",
    )
    assert source.not_taken == ("VideoFlash/1002_IEO_HAP_HI (1).flv", "VideoFlash/1004_ITH_JOY_XX.flv")


def test_crema_d_that_git_lfs_did_not_fetch(tmp_path: Path) -> None:
    root = touched(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    (root / "VideoFlash" / "1001_DFA_ANG_XX.flv").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    )
    with pytest.raises(DataError, match=r"1001_DFA_ANG_XX\.flv: is a pointer of Git LFS; `git lfs pull`"):
        read_source("crema-d", root)


@pytest.mark.parametrize("hollow", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:"])
@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        ("crema-d", "VideoFlash/1001_DFA_ANG_XX.flv", "VideoMP4/1001_DFA_ANG_XX.mp4"),
        ("ravdess", "a/01-01-03-01-01-01-01.mp4", "b/02-01-03-01-01-01-01.mp4"),
        ("mead", "M003/video/front/angry/level_1/001.mp4", "M003/video/top/angry/level_1/001.mp4"),
    ],
)
def test_of_two_files_of_a_take_the_one_that_holds_something_counts(
    tmp_path: Path, layout: str, first: str, second: str, hollow: bytes
) -> None:
    touched(tmp_path, first, second)
    for file in (first, second):
        (tmp_path / file).write_bytes(b"a video")
    assert [clip.source for clip in read_source(layout, tmp_path).clips] == [first]
    (tmp_path / first).write_bytes(hollow)
    assert [clip.source for clip in read_source(layout, tmp_path).clips] == [second]


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("crema-d", "VideoFlash/1001_DFA_ANG_XX.flv"),
        ("ravdess", "Actor_01/01-01-03-01-01-01-01.mp4"),
        ("mead", "M003/video/front/angry/level_1/001.mp4"),
    ],
)
def test_what_a_mac_packed_beside_the_files_is_passed_over(tmp_path: Path, layout: str, file: str) -> None:
    touched(tmp_path / "__MACOSX", file, f"{Path(file).parent}/._{Path(file).name}")
    with pytest.raises(DataError, match=f"not the {layout} layout"):
        read_source(layout, tmp_path)


# RAVDESS


def test_ravdess_counts_each_take_once(tmp_path: Path) -> None:
    made = prepared("ravdess", draw_ravdess(tmp_path / "source"), tmp_path / "set")
    assert made.classes == ("Angry", "Calm", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
    assert (made.folds, len(made.clips)) == (6, 6 * 8)
    assert all(clip.name.split("/")[1].startswith("01-") for clip in made.clips)
    assert {clip.subject: clip.fold for clip in made.clips} == {f"{actor:02d}": actor for actor in range(1, 7)}
    by_code = {clip.name.split("-")[2]: clip.label for clip in made.clips}
    assert [by_code[f"{code:02d}"] for code in range(1, 9)] == [
        *("Neutral", "Calm", "Happy", "Sad", "Angry", "Fear", "Disgust", "Surprise"),
    ]  # fmt: skip


def test_copies_of_ravdess(tmp_path: Path) -> None:
    root = touched(
        tmp_path,
        "Actor_01/01-01-03-01-01-01-01.mp4",
        "Actor_01/02-01-03-01-01-01-01.mp4",
        "Actor_01/03-01-03-01-01-01-01.wav",
        "nested/actor_01/01-01-03-01-01-01-01.mp4",
        "Actor_02/02-02-06-02-02-02-02.MP4",
        "Actor_02/._02-02-06-02-02-02-02.MP4",
        "Actor_02/01-01-09-01-01-01-02.mp4",
        "Actor_02/01-01-03-01-01-01-25.mp4",
        "Actor_02/01-01-03-01-01-01-02 copy.mp4",
    )
    source = read_source("ravdess", root, folds=2)
    assert found(source) == [
        ("Actor_01/01-01-03-01-01-01-01", "Happy", "01", 1),
        ("Actor_02/02-02-06-02-02-02-02", "Fear", "02", 2),
    ]
    assert source.notes == (
        "1 of the 1440 takes of RAVDESS's speech are there",
        "1 of the 1012 takes of RAVDESS's song are there",
        "more files of the same takes, each of which counts once: 1 without sound, 1 as copies",
    )
    assert len(source.not_taken) == 3


# MEAD


def test_mead(tmp_path: Path) -> None:
    root = touched(
        tmp_path,
        "M003/video/front/angry/level_1/001.mp4",
        "M003/video/left_30/angry/level_1/001.mp4",
        "M003/video/down/angry/level_1/001.mp4",
        "M003/video/front/disgusted/level_3/001.mp4",
        "M003/audio/angry/level_1/001.m4a",
        "w009_video/video/Front/Surprised/level_2/007.MP4",
        "w009_video/video/right_60/neutral/level_1/002.mp4",
        "W009_video/video/front/contempt/level_1/._002.mp4",
        "W009_video/video/front/joyful/level_1/002.mp4",
        "W009_video/video/front/sad/level_4/002.mp4",
        "trailer.mp4",
    )
    source = read_source("mead", root, folds=2)
    assert source.classes == ("Angry", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
    assert found(source) == [
        ("M003/front/angry/level_1/001", "Angry", "M003", 1),
        ("M003/front/disgusted/level_3/001", "Disgust", "M003", 1),
        ("W009/front/surprised/level_2/007", "Surprise", "W009", 2),
        ("W009/right_60/neutral/level_1/002", "Neutral", "W009", 2),
    ]
    assert source.notes == ("more files of the same takes, each of which counts once: 2 from another side",)
    assert len(source.not_taken) == 3


# DFEW


def test_dfew(tmp_path: Path) -> None:
    made = prepared("dfew", draw_dfew(tmp_path / "source"), tmp_path / "set")
    assert made.classes == EMOTIONS
    assert made.folds == 5
    assert [(clip.name, clip.label, clip.fold) for clip in made.clips[:8]] == [
        ("00001", "Happy", 1), ("00002", "Sad", 2), ("00003", "Neutral", 3), ("00004", "Angry", 4),
        ("00005", "Surprise", 5), ("00006", "Disgust", 1), ("00007", "Fear", 2), ("00008", "Happy", 3),
    ]  # fmt: skip
    assert len(made.clips) == 10
    assert [len(partition.test) for partition in made.partitions()] == [2] * 5


def test_copies_of_dfew(tmp_path: Path) -> None:
    """Unpacked twice over, in parts, with videos in place of images, without some clips."""
    root = draw_dfew(tmp_path / "source", clips=2)
    pictures = root / "Clip" / "clip_224x224"
    inner = root / "inner"
    pictures.rename(inner)
    pictures.mkdir()
    inner.rename(pictures / "Clip_224x224")
    part = pictures / "Clip_224x224" / "part_1"
    part.mkdir()
    (part.parent / "00003").rename(part / "00003")
    touched(part.parent, ".DS_Store", "._00001", "00001/.DS_Store", "00001/._00001_00001.jpg")
    for frame in (part.parent / "00005").iterdir():
        frame.unlink()
    (part.parent / "00005").rmdir()
    (root / "EmoLabel_DataSplit" / "test(single-labeled)").rename(root / "EmoLabel_DataSplit" / "Test")
    source = read_source("dfew", root)
    assert len(source.clips) == 10
    assert source.clips[0].images == ("00001_00001.jpg", "00001_00002.jpg")
    assert source.clips[2].source.endswith("part_1/00003")
    assert not (root / source.clips[4].source).exists()
    assert (source.without_label, source.notes) == (1, ("clips of Clip_224x224",))
    preparation = prepare("dfew", root, tmp_path / "set", size=CROP, detector=DrawnFaces())
    assert Counter(row["status"] for row in preparation.clips) == {"ok": 9, "unreadable": 1}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "test(single-labeled)/set_2.csv",
            "video_name,label\n2,8\n",
            r"set_2\.csv: line 2: 2,8; video_name,label is wanted",
        ),
        ("test(single-labeled)/set_2.csv", "name,label\n2,1\n", r"set_2\.csv: line 1 has no column video_name"),
        (
            "train(single-labeled)/set_2.csv",
            "video_name,label\n1,2\n",
            r"clip 1 is Happy in one list and Sad in another",
        ),
        ("test(single-labeled)/set_5.csv", None, r"set_5\.csv: cannot be read"),
    ],
)
def test_lists_of_dfew_that_cannot_be(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    root = draw_dfew(tmp_path)
    path = root / "EmoLabel_DataSplit" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_source("dfew", root)


def test_lists_that_are_no_folds_are_told(tmp_path: Path) -> None:
    root = draw_dfew(tmp_path)
    lists = root / "EmoLabel_DataSplit"
    with (lists / "test(single-labeled)" / "set_2.csv").open("a") as file:
        file.write("1,1\n")
    with (lists / "train(single-labeled)" / "set_3.csv").open("a") as file:
        file.write("3,3\n")
    source = read_source("dfew", root)
    assert source.clips[0].fold == 1
    assert source.notes[1:] == (
        "set 2: clips that another set before tests on, where they count: 1",
        "set 3: all other clips are trained on; its own list differs in 1",
    )


# FERV39k and MAFW


def ferv39k(root: Path) -> Path:
    touched(
        root,
        "2_ClipsforFaceCrop/2_ClipsforFaceCrop/Action/Happy/0267/1.jpg",
        "2_ClipsforFaceCrop/2_ClipsforFaceCrop/Action/Happy/0267/10.jpg",
        "2_ClipsforFaceCrop/2_ClipsforFaceCrop/Action/Happy/0267/2.jpg",
        "2_ClipsforFaceCrop/2_ClipsforFaceCrop/Action/Happy/.DS_Store",
        "2_ClipsforFaceCrop/2_ClipsforFaceCrop/crime/Sad/0003.mp4",
        "2_ClipsforFaceCrop/2_ClipsforFaceCrop/Crisis/Fear/0009/1.jpg",
    )
    lists = root / "4_setups" / "All_scenes"
    lists.mkdir(parents=True)
    (lists / "train_All.csv").write_text("Action/Happy/0267 Happy\r\nCrime/Sad/0003 Sad\r\n")
    (lists / "test_All.csv").write_text("Crime/Sad/0003 Sad\nWar/Angry/0001 Angry\n")
    return root


def test_ferv39k(tmp_path: Path) -> None:
    source = read_source("ferv39k", ferv39k(tmp_path))
    assert (source.classes, source.folds, source.without_label) == (EMOTIONS, None, 1)
    assert {clip.name: (clip.label, clip.split) for clip in source.clips} == {
        "crime/sad/0003": ("Sad", "test"),
        "war/angry/0001": ("Angry", "test"),
        "action/happy/0267": ("Happy", "train"),
    }
    assert [clip.images for clip in source.clips] == [None, None, ("1.jpg", "2.jpg", "10.jpg")]
    assert source.notes == ("clips in both lists, which are tested on and not trained on: 1",)
    (tmp_path / "4_setups" / "All_scenes" / "test_All.csv").write_text("Crime/Sad/0003 Gloomy\n")
    with pytest.raises(
        DataError, match=r"test_All\.csv: line 1: 'Crime/Sad/0003 Gloomy'; lines like Action/Happy/0267 H"
    ):
        read_source("ferv39k", tmp_path)


def test_a_set_with_train_and_test_alone_is_tested_on_test(tmp_path: Path) -> None:
    source = draw_crema_d(tmp_path / "source", actors=2)
    rows = [f"{file.relative_to(tmp_path)},{file.stem[9:12]},{'train' if file.stem[3] == '1' else 'test'}\n"
            for file in sorted(source.rglob("*.avi"))]  # fmt: skip
    (tmp_path / "list.csv").write_text("video,label,split\n" + "".join(rows))
    (partition,) = prepared("csv", tmp_path / "list.csv", tmp_path / "set").partitions()
    assert (partition.name, len(partition.train), len(partition.test)) == ("test", 6, 6)


def mafw(root: Path, clips: str = "data/clips") -> Path:
    touched(root, *(f"{clips}/{number:05d}.mp4" for number in range(1, 7)), f"{clips}/._00001.mp4")
    labels = ("anger", "happiness", "anxiety", "helplessness", "sadness")
    for place in range(5):
        lists = root / "Train & Test Set" / "single" / "no_caption" / f"set_{place + 1}"
        lists.mkdir(parents=True)
        for part in ("train", "test"):
            rows = [f"{n + 1:05d}.mp4 {name}" for n, name in enumerate(labels) if (n == place) == (part == "test")]
            (lists / f"{part}.txt").write_text("\n".join(rows) + "\n")
    return root


def test_mafw(tmp_path: Path) -> None:
    touched(tmp_path, "__MACOSX/clips/._00001.mp4", "__MACOSX/single/no_caption/set_1/._test.txt")
    source = read_source("mafw", mafw(tmp_path))
    assert len(source.classes) == 11
    assert [(clip.name, clip.label, clip.fold) for clip in source.clips] == [
        ("00001", "Angry", 1),
        ("00002", "Happy", 2),
        ("00003", "Anxiety", 3),
        ("00004", "Helplessness", 4),
        ("00005", "Sad", 5),
    ]
    assert (source.folds, source.without_label, source.notes) == (5, 1, ())
    lists = tmp_path / "Train & Test Set" / "single" / "no_caption"
    (lists / "set_4" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"set_4.*test\.txt: no such file; lines like 00001\.mp4 anger are wanted"):
        read_source("mafw", tmp_path)
    (lists / "set_4" / "test.txt").write_text("clip.mp4 anger\n")
    with pytest.raises(DataError, match=r"test\.txt: clip\.mp4 is no number; lines like 00001\.mp4 anger are wanted"):
        read_source("mafw", tmp_path)


# What all of them refuse


@pytest.mark.parametrize("layout", ["crema-d", "ravdess", "mead", "dfew", "ferv39k", "mafw"])
def test_another_layout_is_refused_with_what_was_found(tmp_path: Path, layout: str) -> None:
    touched(tmp_path, "Happy/a.mp4", "Sad/b.mp4")
    with pytest.raises(DataError, match=rf"not the {layout} layout, there is no .*; wanted .*; found Happy, Sad$"):
        read_source(layout, tmp_path)


@pytest.mark.parametrize(
    ("layout", "sound"), [("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav"), ("ravdess", "Actor_01/03.wav")]
)
def test_copies_of_the_sound_alone_are_refused(tmp_path: Path, layout: str, sound: str) -> None:
    with pytest.raises(DataError, match=rf"there is no video of such a name in it, only sound \({sound}\); wanted"):
        read_source(layout, touched(tmp_path, sound))


def test_lists_without_their_clips_are_refused(tmp_path: Path) -> None:
    root = mafw(tmp_path)
    for file in (root / "data" / "clips").glob("0*"):
        file.unlink()
    with pytest.raises(DataError, match=r"clips: holds none of the 5 listed clips \(1, \.\.\.\); found nothing"):
        read_source("mafw", root)


def test_official_divisions_are_not_made_anew(tmp_path: Path) -> None:
    for layout, draw in (("dfew", draw_dfew), ("mafw", mafw), ("ferv39k", ferv39k)):
        with pytest.raises(DataError, match=r"is divided by its publishers or its fold column already; --folds is not"):
            read_source(layout, draw(tmp_path / layout), folds=5)


# Folds of a CSV


def write_list(folder: Path, *rows: str, header: str = "video,label,subject,fold") -> Path:
    touched(folder, *(row.split(",")[0] for row in rows))
    (folder / "list.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "list.csv"


def test_folds_of_a_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--folds is not wanted"):
        read_source("csv", write_list(tmp_path, "a.mp4,Joy,p1,1", "b.mp4,Fury,p2,2"), folds=2)
    source = read_source("csv", write_list(tmp_path, "a.mp4,Joy,p1,1", "b.mp4,Fury,p2,2", "c.mp4,Joy,p3,02"))
    assert ([clip.fold for clip in source.clips], source.folds) == ([1, 2, 2], 2)
    assert source.notes == ()


def test_folds_of_other_names_are_numbered(tmp_path: Path) -> None:
    source = read_source("csv", write_list(tmp_path, "a.mp4,Joy,p1,10", "b.mp4,Fury,P2,0", "c.mp4,Joy,p-2,2"))
    assert [clip.fold for clip in source.clips] == [3, 1, 2]
    assert source.notes == (
        'folds "0", "2", "10": numbered 1 to 3',
        'persons "P2", "p-2": taken for one, P2',
        'persons "P2" are in several folds: they are trained on and tested on',
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a.mp4,Joy,p1,1", "b.mp4,Joy,p2,"), r"b\.mp4 has no fold, and others have; a fold for every clip is wanted"),
        (("a.mp4,Joy,p1,1", "b.mp4,Joy,p2,01"), r"all clips are in fold 1; one to test on and others to train on are"),
    ],
)
def test_folds_of_a_csv_that_cannot_be(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_source("csv", write_list(tmp_path, *rows))


# Folds of persons


@pytest.mark.parametrize(
    ("layout", "persons", "folds", "note"),
    [
        ("ravdess", 1, None, "no folds, as there is one person alone"),
        ("ravdess", 2, 2, "2 folds, as there are no more persons"),
        ("ravdess", 6, 6, None),
        ("ravdess", 9, 6, None),
        ("crema-d", 1, None, "no folds, as there is one person alone"),
        ("crema-d", 4, 4, "4 folds, as there are no more persons"),
        ("csv", 1, None, "no folds, as there is one person alone"),
        ("csv", 3, 3, "3 folds, as there are no more persons"),
        ("csv", 7, 5, None),
    ],
)
def test_a_copy_of_few_persons_has_as_many_folds(
    tmp_path: Path, layout: str, persons: int, folds: int | None, note: str | None
) -> None:
    """People fetch one archive of many first."""
    numbers = range(1, persons + 1)
    if layout == "csv":
        rows = [f"{n}.mp4,{label},p{n}" for n, label in zip(numbers, "ABABABA", strict=False)]
        source = read_source("csv", write_list(tmp_path, *rows, header="video,label,subject"))
    else:
        pattern = "01-01-03-01-01-01-0{}.mp4" if layout == "ravdess" else "100{}_DFA_ANG_XX.flv"
        source = read_source(layout, touched(tmp_path, *(pattern.format(n) for n in numbers)))
    assert source.folds == folds
    assert {clip.fold for clip in source.clips} == ({None} if folds is None else set(range(1, folds + 1)))
    assert [line for line in source.notes if "folds" in line] == ([] if note is None else [note])


def test_a_csv_with_splits_or_without_all_persons_gets_no_folds(tmp_path: Path) -> None:
    for header, rows in (
        ("video,label,subject,split", ("a.mp4,Joy,p1,train", "b.mp4,Fury,p2,test")),
        ("video,label,subject", ("a.mp4,Joy,p1", "b.mp4,Fury,")),
        ("video,label", ("a.mp4,Joy", "b.mp4,Fury")),
    ):
        assert read_source("csv", write_list(tmp_path, *rows, header=header)).folds is None


def test_who_is_trained_on_and_tested_on_is_told(tmp_path: Path) -> None:
    told = r'persons "P1" are in several {}: they are trained on and tested on'
    split = write_list(
        tmp_path,
        *("a.mp4,Joy,P1,train", "b.mp4,Fury,p-1,test", "c.mp4,Joy,p2,val", "d.mp4,Joy,p2,test"),
        header="video,label,subject,split",
    )
    assert read_source("csv", split).notes[-1] == told.format("splits")
    fold = write_list(tmp_path, "a.mp4,Joy,P1,1", "b.mp4,Fury,P1,2", "c.mp4,Joy,p2,1")
    assert read_source("csv", fold).notes[-1] == told.format("folds")
    both = write_list(tmp_path, "a.mp4,Joy,p1,1,train", "b.mp4,Fury,p2,2,test", header="video,label,subject,fold,split")
    assert read_source("csv", both).notes == ("train, val and test are not heeded, as there are folds",)


def test_a_set_is_divided_otherwise_in_place(tmp_path: Path) -> None:
    source = draw_ravdess(tmp_path / "source", actors=3)
    assert prepared("ravdess", source, tmp_path / "set").folds == 3
    preparation = prepare("ravdess", source, tmp_path / "set", size=CROP, detector=DrawnFaces(), folds=2)
    assert preparation.found_done == 24
    made = open_prepared(tmp_path / "set")
    assert {clip.subject: clip.fold for clip in made.clips} == {"01": 1, "02": 2, "03": 1}
    assert len(made.partitions()) == made.folds == 2


# Classes


def test_classes_are_picked_and_put_together(tmp_path: Path) -> None:
    root = touched(tmp_path, *(f"Actor_0{a}/01-01-0{code}-01-01-01-0{a}.mp4" for a in (1, 2) for code in range(1, 9)))
    source = read_source("ravdess", root, 2, "happy,NEUTRAL,Calm=neutral")
    assert source.classes == ("Happy", "Neutral")
    assert Counter(clip.label for clip in source.clips) == {"Neutral": 4, "Happy": 2}
    assert source.notes[-1] == "left out with --classes: 2 Angry, 2 Disgust, 2 Fear, 2 Sad, 2 Surprise"
    merged = read_source("ravdess", root, 2, "Calm=Neutral")
    assert merged.classes == EMOTIONS
    assert len(merged.clips) == 16
    assert {clip.label for clip in read_source("ravdess", root, 2, "Calm=-").clips} == set(EMOTIONS)
    whole = {clip.name: clip.fold for clip in read_source("ravdess", root, 2).clips}
    assert all(whole[clip.name] == clip.fold for clip in source.clips)
    named = read_source("ravdess", root, 2, "Happy=Joy,Calm=Joy,Sad")
    assert named.classes == ("Joy", "Sad")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Happy,Calm=Neutral", {"Happy": 2, "Neutral": 4}),
        ("Sad,Disgust=anger,Angry=anger", {"Sad": 2, "anger": 4}),
        ("Calm=Neutral,Fear=Surprise,Sad", {"Neutral": 4, "Surprise": 4, "Sad": 2}),
        ("Happy,Calm=Neutral,Neutral=-", {"Happy": 2, "Neutral": 2}),
    ],
)
def test_a_class_that_others_are_put_into_keeps_its_own_clips(
    tmp_path: Path, text: str, counts: dict[str, int]
) -> None:
    root = touched(tmp_path, *(f"Actor_0{a}/01-01-0{code}-01-01-01-0{a}.mp4" for a in (1, 2) for code in range(1, 9)))
    assert Counter(clip.label for clip in read_source("ravdess", root, 2, text).clips) == counts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Joy,Sad", r"--classes Joy,Sad: .* has no class Joy; it has Angry, Calm, Disgust, "),
        ("Happy,,Sad", r"CLASS,CLASS,LABEL=CLASS is wanted"),
        ("Happy=", r"CLASS,CLASS,LABEL=CLASS is wanted"),
        ("Happy,happy", r"Happy is there twice"),
        ("Happy", r"two classes or more are wanted"),
        ("Sad,Fear", r"has no clip of Fear, Sad"),
    ],
)
def test_classes_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    root = touched(tmp_path, *(f"Actor_0{actor}/01-01-03-01-01-01-0{actor}.mp4" for actor in (1, 2)))
    with pytest.raises(DataError, match=message):
        read_source("ravdess", root, 2, text)


def test_a_set_is_relabelled_in_place(tmp_path: Path) -> None:
    source = draw_ravdess(tmp_path / "source", actors=2)
    assert "Calm" in prepared("ravdess", source, tmp_path / "set", folds=2).classes
    preparation = prepare(
        "ravdess", source, tmp_path / "set", size=CROP, detector=DrawnFaces(), folds=2, classes="Calm=Neutral"
    )
    assert preparation.found_done == 16
    assert Counter(clip.label for clip in open_prepared(tmp_path / "set").clips)["Neutral"] == 4
    with pytest.raises(DataError, match=r"holds the clip .*, which is not in .*, or of no class that is kept; another"):
        prepared("ravdess", source, tmp_path / "set", folds=2, classes="Happy,Sad")


def test_the_summary_counts_clips_subjects_folds_and_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for layout, draw, counts in (
        ("crema-d", draw_crema_d, "30 clips, 5 subjects, 5 folds, 6 classes"),
        ("dfew", draw_dfew, "10 clips, 5 folds, 7 classes"),
    ):
        source = draw(tmp_path / layout)
        show(summary(prepare(layout, source, tmp_path / f"{layout}-set", size=CROP, detector=DrawnFaces()), 1.0))
        assert counts in capsys.readouterr().out.splitlines()
