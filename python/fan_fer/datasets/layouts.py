"""How data sets lie on disk: which clips a source holds, with label, split, subject and fold."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fan_fer.base.csv_files import read_table
from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError
from fan_fer.base.files import exists, file_name, is_file, is_folder, read_file, readable
from fan_fer.base.names import Spellings, name_key, person_key, quoted
from fan_fer.base.texts import decode_text
from fan_fer.datasets.acted import crema_d, mead, ravdess
from fan_fer.datasets.classes import pick_classes
from fan_fer.datasets.listing import (
    Source,
    SourceClip,
    clip_images,
    contents,
    files_in,
    find_folder,
    folders_in,
    images_in,
    natural,
    videos_in,
)
from fan_fer.datasets.official import dfew, ferv39k, mafw
from fan_fer.video.sources import visible_files

CKPLUS_CODES = {1: "Angry", 2: "Contempt", 3: "Disgust", 4: "Fear", 5: "Happy", 6: "Sad", 7: "Surprise"}
FOLDS = {"ckplus": 10, "crema-d": 5, "ravdess": 6, "mead": 5, "csv": 5}  # of persons, unless said
_FOLDERS = "wanted CLASS/*.mp4 or CLASS/CLIP/*.png, perhaps below train, val and test"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_source(layout: str, path: Path, folds: int | None = None, classes: str | None = None) -> Source:
    """The clips at ``path``, which is laid out as ``layout`` says. Opens no video, and few images.

    folds: how many folds of persons to make; None: those of FOLDS, or as many as there are persons, where the source
        names the person of every clip and has no folds or splits of its own.
    classes: which classes to keep and which labels to put together, see :func:`fan_fer.datasets.classes.pick_classes`.
    Raises DataError where the layout is unknown or another one, where labels cannot be read, and where folds are to be
    made of a source that has its own.
    """
    if layout not in LAYOUTS:
        raise DataError(f"layout {layout!r} is unknown; wanted: {', '.join(LAYOUTS)}")
    if layout == "csv":
        if not is_file(path):
            raise DataError(f"{path}: {'is a folder' if is_folder(path) else 'no such file'}; csv wants a CSV file")
    elif not is_folder(path):
        raise DataError(f"{path}: {'is a file' if exists(path) else 'no such folder'}; {layout} wants a folder")
    try:
        source = LAYOUTS[layout](path)
        if layout in ("ckplus", "afew", "folders", "csv"):
            source = replace(source, not_taken=_not_taken(source, whole=layout in ("afew", "folders")))
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    source = _join_spellings(path, source)
    _check_names(path, source.clips)
    if folds is not None and (source.folds is not None or layout in OFFICIAL):
        raise DataError(f"{path}: is divided by its publishers or its fold column already; --folds is not wanted")
    if folds is None and layout in FOLDS and source.folds is None:
        source = _by_all_persons(source, FOLDS[layout])
    elif folds is not None:
        source = _by_person(path, source, folds)
    source = source if classes is None else pick_classes(path, source, classes)
    return replace(source, notes=(*source.notes, *_divided_notes(source)))


def ckplus(root: Path) -> Source:
    """CK+: cohn-kanade-images/SUBJECT/SEQUENCE/*.png, and the labels in Emotion/SUBJECT/SEQUENCE/*_emotion.txt."""
    wanted = "wanted cohn-kanade-images/S005/001/*.png and Emotion/S005/001/*_emotion.txt"
    pictures, emotion = find_folder(root, "cohn-kanade-images"), find_folder(root, "Emotion")
    if pictures is None or emotion is None:
        missing = "cohn-kanade-images" if pictures is None else "Emotion"
        raise DataError(f"{root}: not the ckplus layout, there is no folder {missing}; {wanted}; {contents(root)}")
    labels = {key: file for key, folder in _sequences(emotion).items() if (file := _label_file(folder))}
    sequences = _sequences(pictures)
    if not labels or not sequences:
        empty, what = (emotion, "label file") if not labels else (pictures, "sequence")
        raise DataError(f"{empty}: not the ckplus layout, there is no {what} in it; {wanted}; {contents(empty)}")
    clips = []
    for key in sorted(labels, key=lambda key: (natural(key[0]), natural(key[1]))):
        file, folder = labels[key], sequences.get(key)
        images, note = clip_images(folder) if folder else ((), "there is a label and no folder of images")
        # The label is named after the sequence's last frame.
        frame = file.stem.lower().removesuffix("_emotion")
        if images and Path(images[-1]).stem.lower() != frame:
            note = f"the label is that of {frame}, the last image is {images[-1]}"
        names = (folder or file.parent).parts[-2:]
        clips.append(
            SourceClip(
                name="/".join(names),
                label=CKPLUS_CODES[_ckplus_code(file)],
                source=(folder or pictures.joinpath(*names)).relative_to(root).as_posix(),
                images=images,
                subject=names[0],
                note=note,
            )
        )
    unlabelled = sum(1 for key, folder in sequences.items() if key not in labels and clip_images(folder)[0])
    return Source(root, tuple(sorted(CKPLUS_CODES.values())), tuple(clips), without_label=unlabelled)


def afew(root: Path) -> Source:
    """AFEW: Train_AFEW/EMOTION/*.avi and Val_AFEW/EMOTION/*.avi."""
    wanted = "wanted Train_AFEW/Angry/*.avi and the like, and Val_AFEW/Angry/*.avi"
    clips: list[SourceClip] = []
    for split, name in (("train", "Train_AFEW"), ("val", "Val_AFEW")):
        folder = find_folder(root, name)
        if folder is None:
            raise DataError(f"{root}: not the afew layout, there is no folder {name}; {wanted}; {contents(root)}")
        found = len(clips)
        for emotion in folders_in(folder):
            videos = videos_in(emotion)
            label = next((known for known in EMOTIONS if name_key(known) == name_key(emotion.name)), None)
            if videos and label is None:
                raise DataError(f"{emotion}: is not named after an emotion; wanted: {', '.join(EMOTIONS)}")
            for video in videos:
                source = video.relative_to(root).as_posix()
                clips.append(SourceClip(f"{name}/{label}/{video.name}", emotion.name, source, split=split))
        if len(clips) == found:
            raise DataError(f"{folder}: not the afew layout, there is no video in it; {wanted}; {contents(folder)}")
    return Source(root, EMOTIONS, _short_names(clips))


def folders(root: Path) -> Source:
    """A folder of videos, or of folders with images, for every class; perhaps below train, val and test."""
    tops = folders_in(root)
    splits = [top for top in tops if split_key(top.name) in SPLITS]
    others = [top for top in tops if top not in splits and _class_clips(root, top)]
    if splits and others:
        raise DataError(f"{root}: holds {splits[0].name}, a split, beside {others[0].name}, a class; {_FOLDERS}")
    clips: list[SourceClip] = []
    for top in splits or [root]:
        split = split_key(top.name) if splits else None
        for folder in folders_in(top):
            clips += [replace(clip, split=split) for clip in _class_clips(root, folder)]
    if not clips:
        raise DataError(f"{root}: not the folders layout, no folder in it holds clips; {_FOLDERS}; {contents(root)}")
    return Source(root, (), _short_names(clips))


def csv_list(path: Path) -> Source:
    """A CSV with the columns video and label, perhaps split, subject and fold; paths are relative to its folder."""
    wanted = "video,label[,split,subject,fold,...] is wanted"
    clips: list[SourceClip] = []
    lines: dict[str, int] = {}
    folds: dict[str, str] = {}  # of the clips, by their path
    without_label = 0
    for line, row in read_table(path, ("video", "label"), wanted, ("split", "subject", "fold")).rows:
        where = f"{path}: line {line}"
        video, label, split, subject = (row.get(name, "") for name in ("video", "label", "split", "subject"))
        video = file_name(video)
        if not video:
            raise DataError(f"{where} names no video; {wanted}")
        if not label:
            without_label += 1
            continue
        if split and split_key(split) not in SPLITS:
            raise DataError(f"{where}: split {split!r} is unknown; wanted train, val or test")
        real = os.path.normpath(path.parent / video)
        if real in lines:
            raise DataError(f"{where}: {video} is listed in line {lines[real]} already; a clip has one row")
        lines[real] = line
        if row.get("fold"):
            folds[video] = row["fold"]
        name = re.sub(r"^(\.\./|/)+", "", os.path.normpath(video))
        if name in (".", ".."):
            raise DataError(f"{where}: {video} is no video; {wanted}")
        folder = path.parent / video
        images, note = clip_images(folder) if is_folder(folder) else (None, "")
        clips.append(SourceClip(name, label, video, images, split_key(split) or None, subject or None, note=note))
    if not clips:
        raise DataError(f"{path}: lists no video with a label; {wanted}")
    if not any(exists(path.parent / clip.source) for clip in clips):
        raise DataError(
            f"{path}: none of its {len(clips)} videos exists ({path.parent / clips[0].source}, ...); "
            "paths are relative to the CSV's folder"
        )
    source = Source(path.parent, (), _short_names(clips), without_label=without_label)
    return _in_folds(path, source, folds) if folds else source


def _in_folds(path: Path, source: Source, folds: Mapping[str, str]) -> Source:
    """The source divided as its column says; folds that are named otherwise than 1 to N are numbered in order."""
    lacking = [clip.source for clip in source.clips if clip.source not in folds]
    if lacking:
        raise DataError(f"{path}: {lacking[0]} has no fold, and others have; a fold for every clip is wanted")
    spellings = Spellings("folds", person_key)
    kept = {video: spellings.keep(name) for video, name in folds.items()}
    names = sorted(set(kept.values()), key=natural)
    if len(names) < 2:
        raise DataError(f"{path}: all clips are in fold {names[0]}; one to test on and others to train on are wanted")
    number = {name: place for place, name in enumerate(names, 1)}
    clips = tuple(replace(clip, fold=number[kept[clip.source]]) for clip in source.clips)
    notes = (
        []
        if all(person_key(name) == str(place) for name, place in number.items())
        else [f"folds {quoted(names)}: numbered 1 to {len(names)}"]
    )
    return replace(source, clips=clips, folds=len(names), notes=(*source.notes, *notes))


LAYOUTS: dict[str, Callable[[Path], Source]] = {
    "crema-d": crema_d,
    "ravdess": ravdess,
    "mead": mead,
    "dfew": dfew,
    "ferv39k": ferv39k,
    "mafw": mafw,
    "ckplus": ckplus,
    "afew": afew,
    "folders": folders,
    "csv": csv_list,
}
OFFICIAL = ("dfew", "ferv39k", "mafw")  # layouts whose publishers say what to test on


def split_key(name: str) -> str:
    """What the names of splits are compared by: "train", "val" or "test" for each of their names."""
    key = name_key(name)
    return SPLITS.get(key, key)


def _join_spellings(path: Path, source: Source) -> Source:
    """Labels and persons that are written in several ways are one each, in the first spelling."""
    labels, persons = Spellings("labels", known=source.classes), Spellings("persons", person_key)
    clips = []
    for clip in source.clips:
        if not name_key(clip.label):
            raise DataError(f"{path}: the label {clip.label!r} of {clip.name} shows nothing; a name is wanted")
        subject = None if clip.subject is None else persons.keep(clip.subject)
        clips.append(replace(clip, label=labels.keep(clip.label), subject=subject))
    classes = source.classes or tuple(sorted({clip.label for clip in clips}))
    return replace(
        source, classes=classes, clips=tuple(clips), notes=(*source.notes, *labels.notes(), *persons.notes())
    )


def _not_taken(source: Source, whole: bool) -> tuple[str, ...]:
    """Files that are part of no clip: below the root where the ``whole`` of it is made of clips, else beside images."""
    images = [source.root / clip.source for clip in source.clips if clip.images is not None]
    found = {file for folder in ([source.root] if whole else images) for file in visible_files(folder)}
    taken = {source.root / clip.source / name for clip in source.clips for name in clip.images or ("",)}
    return tuple(sorted((os.path.relpath(file, source.root) for file in found - taken), key=natural))


def _by_person(path: Path, source: Source, folds: int) -> Source:
    """Subjects in ascending order; fold k takes the k-th of them and every ``folds``-th from there."""
    if folds < 2:
        raise DataError(f"{folds} fold: at least 2 are wanted, one to test on and others to train on")
    lacking = [clip.name for clip in source.clips if clip.subject is None]
    if lacking:
        raise DataError(f"{path}: folds are made of persons, and {lacking[0]} has no subject; a CSV can name it")
    subjects = sorted({clip.subject for clip in source.clips if clip.subject is not None}, key=natural)
    if len(subjects) < folds:
        raise DataError(f"{path}: {folds} folds of {len(subjects)} subjects; at most one fold a subject is wanted")
    fold = {subject: index % folds + 1 for index, subject in enumerate(subjects)}
    clips = tuple(replace(clip, fold=fold[clip.subject]) for clip in source.clips if clip.subject is not None)
    return replace(source, clips=clips, folds=folds)


def _by_all_persons(source: Source, folds: int) -> Source:
    """The source in ``folds`` folds, or one for each person; as it is where it has splits or does not tell everyone."""
    persons = {clip.subject for clip in source.clips}
    if None in persons or any(clip.split for clip in source.clips):
        return source
    if len(persons) < 2:
        return replace(source, notes=(*source.notes, "no folds, as there is one person alone"))
    notes = [f"{len(persons)} folds, as there are no more persons"] if len(persons) < folds else []
    return replace(_by_person(source.root, source, min(folds, len(persons))), notes=(*source.notes, *notes))


def _divided_notes(source: Source) -> list[str]:
    """What is odd about how a source is divided."""
    notes = []
    folds = source.folds is not None
    where: dict[str, set[int | str | None]] = {}
    for clip in source.clips:
        if clip.subject is not None:
            where.setdefault(clip.subject, set()).add(clip.fold if folds else clip.split)
    several = [person for person, found in where.items() if len(found - {None}) > 1 and (folds or "train" in found)]
    if several:
        several.sort(key=natural)
        parts = "folds" if folds else "splits"
        notes.append(f"persons {quoted(several)} are in several {parts}: they are trained on and tested on")
    if folds and any(clip.split for clip in source.clips):
        notes.append("train, val and test are not heeded, as there are folds")
    return notes


def _ckplus_code(file: Path) -> int:
    text = decode_text(read_file(file), "replace").strip()
    try:
        code = float(text)
    except ValueError:
        code = 0
    if code not in CKPLUS_CODES:
        codes = ", ".join(f"{number} {name}" for number, name in CKPLUS_CODES.items())
        raise DataError(f"{file}: holds {text[:20]!r}; an emotion's code is wanted: {codes}")
    return int(code)


def _label_file(folder: Path) -> Path | None:
    files = [file for file in files_in(folder) if file.name.lower().endswith("_emotion.txt")]
    if len(files) > 1:
        raise DataError(f"{folder}: holds {len(files)} labels; one file *_emotion.txt is wanted")
    return files[0] if files else None


def _sequences(folder: Path) -> dict[tuple[str, str], Path]:
    """Folders by subject and sequence, which may be written otherwise among the labels than among the images."""
    found: dict[tuple[str, str], Path] = {}
    for subject in folders_in(folder):
        for sequence in folders_in(subject):
            first = found.setdefault((person_key(subject.name), name_key(sequence.name)), sequence)
            if first != sequence:
                raise DataError(f"{sequence}: is the same sequence as {first}; one of them is wanted")
    return found


def _class_clips(root: Path, folder: Path) -> list[SourceClip]:
    """The videos in a class's folder, and the folders with images in it."""
    clips = [_clip(root, video, folder.name) for video in videos_in(folder)]
    if not clips and images_in(folder):
        raise DataError(f"{folder}: not the folders layout, its images are in no clip's folder; {_FOLDERS}")
    for below in folders_in(folder):
        images, note = clip_images(below)
        if not note and (videos_in(below) or any(clip_images(deeper)[0] for deeper in folders_in(below))):
            raise DataError(f"{below}: not the folders layout, there are clips one level too deep; {_FOLDERS}")
        if images or note:
            clips.append(replace(_clip(root, below, folder.name, images), note=note))
    return clips


def _clip(root: Path, path: Path, label: str, images: tuple[str, ...] | None = None) -> SourceClip:
    source = path.relative_to(root).as_posix()
    return SourceClip(source, readable(label), source, images)


def _short_names(clips: Sequence[SourceClip]) -> tuple[SourceClip, ...]:
    """Videos named without their suffix, but for those whose names would then not be their own."""
    short = [clip.name if clip.images is not None else str(Path(clip.name).with_suffix("")) for clip in clips]
    taken = {name for name, count in Counter(short).items() if count > 1}
    taken |= {str(parent) for name in short for parent in Path(name).parents}
    return tuple(clip if name in taken else replace(clip, name=name) for clip, name in zip(clips, short, strict=True))


def _check_names(path: Path, clips: Sequence[SourceClip]) -> None:
    """Every clip gets a folder of its own, and none lies in another's."""
    names = sorted(Path(clip.name) for clip in clips)
    for first, second in pairwise(names):
        if first == second or first in second.parents:
            raise DataError(f"{path}: clips {first} and {second} cannot be told apart; other file names are wanted")
