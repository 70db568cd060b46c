"""Sets whose publishers list which clips to train and to test on: DFEW, FERV39k and MAFW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fan_fer.base.csv_files import read_table
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError
from fan_fer.base.files import is_file, is_folder, read_file
from fan_fer.base.names import name_key
from fan_fer.base.texts import decode_text
from fan_fer.datasets.listing import Source, SourceClip, clip_images, contents, find_folder, folders_in, visible
from fan_fer.video.sources import VIDEO_SUFFIXES

SETS = 5  # official splits of DFEW and of MAFW, each with other clips to test on
DFEW = dict(enumerate(("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear"), 1))
DFEW_CLIPS = ("clip_224x224", "clip_224x224_avi", "clip_224x224_16f", "original", "jpg_256")  # the first one counts
MAFW = {
    "anger": "Angry",
    "disgust": "Disgust",
    "fear": "Fear",
    "happiness": "Happy",
    "neutral": "Neutral",
    "sadness": "Sad",
    "surprise": "Surprise",
    "contempt": "Contempt",
    "anxiety": "Anxiety",
    "helplessness": "Helplessness",
    "disappointment": "Disappointment",
}

_Key = int | str  # what tells the clips apart: a number, or a path in lower case
_Labels = dict[_Key, str]


def dfew(root: Path) -> Source:
    """DFEW: Clip/clip_224x224/00001/*.jpg, and EmoLabel_DataSplit/test(single-labeled)/set_1.csv to set_5.csv."""
    layout, wanted = (
        "dfew",
        "wanted Clip/clip_224x224/00001/*.jpg and EmoLabel_DataSplit/test(single-labeled)/set_1.csv",
    )
    lists = _needed(root, layout, wanted, "EmoLabel_DataSplit")
    train, test = (_needed(lists, layout, wanted, f"{part}(single-labeled)", part) for part in ("train", "test"))
    clips = _needed(_needed(root, layout, wanted, "Clip"), layout, wanted, *DFEW_CLIPS)
    names = [f"set_{number}.csv" for number in range(1, SETS + 1)]
    sets = [(_dfew_list(train / name), _dfew_list(test / name)) for name in names]
    source = _in_folds(root, sets, _numbered(clips), clips)
    return replace(source, classes=EMOTIONS, notes=(f"clips of {clips.name}", *source.notes))


def mafw(root: Path) -> Source:
    """MAFW: clips/00001.mp4 or frames/00001/*, and single/no_caption/set_1/test.txt to set_5; its single labels."""
    layout, wanted = "mafw", "wanted clips/00001.mp4 (or frames/00001/*.png) and single/no_caption/set_1/test.txt"
    lists = _needed(_needed(root, layout, wanted, "single"), layout, wanted, "no_caption")
    clips = _needed(root, layout, wanted, "clips", "frames")
    folders = [lists / f"set_{number}" for number in range(1, SETS + 1)]
    sets = [(_mafw_list(folder / "train.txt"), _mafw_list(folder / "test.txt")) for folder in folders]
    return replace(_in_folds(root, sets, _numbered(clips), clips), classes=tuple(sorted(MAFW.values())))


def ferv39k(root: Path) -> Source:
    """FERV39k: 2_ClipsforFaceCrop/Action/Happy/0267/*.jpg, and 4_setups/All_scenes/train_All.csv and test_All.csv."""
    layout, wanted = "ferv39k", "wanted 2_ClipsforFaceCrop/Action/Happy/0267/*.jpg and 4_setups/All_scenes/test_All.csv"
    clips = _needed(root, layout, wanted, "2_ClipsforFaceCrop")
    lists = _needed(_needed(root, layout, wanted, "4_setups"), layout, wanted, "All_scenes")
    known = {name_key(name): name for name in EMOTIONS}
    labels: _Labels = {}
    splits: dict[_Key, str] = {}
    both = 0
    for split in ("test", "train"):
        for name, label in _rows(lists / f"{split}_All.csv", known, "Action/Happy/0267 Happy"):
            key = name.lower().removesuffix(".mp4")
            both += splits.get(key, split) != split
            labels.setdefault(key, label)
            splits.setdefault(key, split)
    found: dict[_Key, Path] = {
        f"{scene.name}/{emotion.name}/{clip.stem}".lower(): clip
        for scene in folders_in(clips)
        for emotion in folders_in(scene)
        for clip in visible(emotion)
        if _is_clip(clip)
    }
    listed = _clips(root, labels, found, clips)
    parts = tuple(replace(clip, split=splits[key]) for key, clip in zip(labels, listed, strict=True))
    notes = (f"clips in both lists, which are tested on and not trained on: {both}",) if both else ()
    return Source(root, EMOTIONS, parts, without_label=len(set(found) - set(labels)), notes=notes)


def _in_folds(root: Path, sets: Sequence[tuple[_Labels, _Labels]], found: Mapping[_Key, Path], folder: Path) -> Source:
    """The clips of the lists (train, test) of every set: fold k tests on what set k does, and trains on the rest."""
    labels: _Labels = {}
    folds: dict[_Key, int] = {}
    notes = []
    for number, (train, test) in enumerate(sets, 1):
        for key, label in (*test.items(), *train.items()):
            if labels.setdefault(key, label) != label:
                raise DataError(f"{folder}: clip {key} is {labels[key]} in one list and {label} in another")
        again = [key for key in test if folds.setdefault(key, number) != number]
        if again:
            notes.append(f"set {number}: clips that another set before tests on, where they count: {len(again)}")
    for number, (train, _) in enumerate(sets, 1):
        other = set(train) ^ {key for key in labels if folds.get(key) != number}
        if other:
            notes.append(f"set {number}: all other clips are trained on; its own list differs in {len(other)}")
    labels = dict(sorted(labels.items()))
    clips = _clips(root, labels, found, folder)
    made = tuple(replace(clip, fold=folds.get(key)) for key, clip in zip(labels, clips, strict=True))
    return Source(root, (), made, len(sets), without_label=len(set(found) - set(labels)), notes=tuple(notes))


def _clips(root: Path, labels: _Labels, found: Mapping[_Key, Path], folder: Path) -> list[SourceClip]:
    """The clips that are listed, in order; one that is not in ``folder`` keeps its place and cannot be read."""
    if not any(key in found for key in labels):
        first = next(iter(labels), "no clip")
        raise DataError(f"{folder}: holds none of the {len(labels)} listed clips ({first}, ...); {contents(folder)}")
    clips = []
    for key, label in labels.items():
        name = f"{key:05d}" if isinstance(key, int) else str(key)
        path = found.get(key, folder / name)
        images, note = clip_images(path) if is_folder(path) else (None, "")
        clips.append(SourceClip(name, label, path.relative_to(root).as_posix(), images, note=note))
    return clips


def _needed(folder: Path, layout: str, wanted: str, *names: str) -> Path:
    """The first folder of these names in ``folder`` or one level down, or one of its name in it. Raises DataError."""
    for name in names:
        path = find_folder(folder, name)
        while path is not None:
            inner = [below for below in folders_in(path) if name_key(below.name) == name_key(name)]
            if not inner:
                return path
            path = inner[0]
    raise DataError(
        f"{folder}: not the {layout} layout, there is no folder {' or '.join(names)}; {wanted}; {contents(folder)}"
    )


def _numbered(folder: Path) -> dict[_Key, Path]:
    """Videos, or folders of images, by the number that they are named after; also one level down (part_1)."""
    found: dict[_Key, Path] = {}
    entries = sorted(visible(folder))
    entries += [
        entry for part in entries if not part.stem.isdecimal() and is_folder(part) for entry in sorted(visible(part))
    ]
    for entry in entries:
        if entry.stem.isdecimal() and _is_clip(entry):
            found.setdefault(int(entry.stem), entry)
    return found


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES or is_folder(path)


def _dfew_list(path: Path) -> _Labels:
    wanted = "video_name,label is wanted, with labels from 1 to 7"
    labels: _Labels = {}
    for line, row in read_table(path, ("video_name", "label"), wanted).rows:
        number, code = _number(row["video_name"]), _number(row["label"])
        if number is None or code not in DFEW:
            raise DataError(f"{path}: line {line}: {row['video_name']},{row['label']}; {wanted}")
        labels[number] = DFEW[code]
    return labels


def _mafw_list(path: Path) -> _Labels:
    example = "00001.mp4 anger"
    labels: _Labels = {}
    for name, label in _rows(path, MAFW, example):
        number = _number(name)
        if number is None:
            raise DataError(f"{path}: {name} is no number; lines like {example} are wanted")
        labels[number] = label
    return labels


def _rows(path: Path, known: Mapping[str, str], example: str) -> list[tuple[str, str]]:
    """Name and class of the clips of a list with a line each, without a header. Raises DataError."""
    wanted = f"lines like {example} are wanted"
    if not is_file(path):
        raise DataError(f"{path}: no such file; {wanted}")
    rows = []
    for number, line in enumerate(decode_text(read_file(path), "replace").splitlines(), 1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        label = known.get(name_key(cells[1])) if len(cells) == 2 else None
        if label is None:
            raise DataError(f"{path}: line {number}: {line[:60]!r}; {wanted}")
        rows.append((cells[0], label))
    return rows


def _number(text: str) -> int | None:
    """1 of "1", "1.0", "00001" and "00001.mp4"."""
    stem = text.partition(".")[0]
    return int(stem) if stem.isdecimal() else None
