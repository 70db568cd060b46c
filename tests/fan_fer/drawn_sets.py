"""Tiny data sets of schematic faces in the layouts of published ones, drawn in a moment, and the prepared sets of them.

    source = draw_ckplus(tmp_path / "ckplus", subjects=5)
    prepare("ckplus", source, tmp_path / "set", size=32, detector=DrawnFaces(), folds=5)

    prepared = open_prepared(prepared_ckplus(tmp_path))  # both steps at once, 32-pixel crops

The same arguments give the same pictures. All seven expressions of a set differ enough for a small network to learn.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from drawn_faces import SIZE, DrawnFaces, draw_face

from fan_fer.base.emotions import EMOTIONS
from fan_fer.datasets.acted import CREMA_D, RAVDESS
from fan_fer.datasets.layouts import CKPLUS_CODES
from fan_fer.datasets.official import DFEW
from fan_fer.datasets.prepare import prepare

CROP = 32  # side of the crops in the sets that are prepared here


def draw_ckplus(folder: Path, *, subjects: int = 5, sequences: int = 3, frames: int = 4, unlabelled: int = 1) -> Path:
    """Grey image sequences from neutral to the full expression.

    Subject i, from 0, is S00i and has ``sequences`` sequences 001, 002, ... of consecutive emotions in the order of the
    codes, starting at its own number; so 7 sequences are one of each, and fewer vary over the subjects. The first
    ``unlabelled`` subjects have one more sequence without a label. Returns ``folder``.
    """
    codes = list(CKPLUS_CODES)
    for person in range(subjects):
        subject = f"S{person:03d}"
        for number in range(1, sequences + 1 + (person < unlabelled)):
            code = codes[(person + number - 1) % len(codes)]
            images = folder / "cohn-kanade-images" / subject / f"{number:03d}"
            images.mkdir(parents=True)
            for frame in range(1, frames + 1):
                strength = (frame - 1) / max(frames - 1, 1)
                picture = draw_face(CKPLUS_CODES[code], strength, person, shift=(frame % 3 - 1, 0))
                name = f"{subject}_{number:03d}_{frame:08d}"
                cv2.imwrite(str(images / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
            if number <= sequences:
                label = folder / "Emotion" / subject / f"{number:03d}" / f"{name}_emotion.txt"
                label.parent.mkdir(parents=True)
                label.write_text(f"   {code:.7e}\n")
    return folder


def draw_afew(folder: Path, *, train: int = 2, val: int = 1, frames: int = 6) -> Path:
    """Colour videos of ``frames`` frames, ``train`` and ``val`` of each emotion, all of different persons.

    The expression shows in the middle half of the frames, the others are neutral; frames.csv beside the videos says so,
    with the columns ``clip, frame, intensity, occluded, emotion`` of the sets that tell. Returns ``folder``.
    """
    first, last = frames // 4, frames - frames // 4
    person = 0
    for name, count in (("Train_AFEW", train), ("Val_AFEW", val)):
        truth = []
        for emotion in EMOTIONS:
            (folder / name / emotion).mkdir(parents=True)
            for _ in range(count):
                person += 1
                shown = [float(emotion == "Neutral" or first <= frame < last) for frame in range(frames)]
                pictures = [
                    draw_face(emotion, strength, 1000 + person, shift=(frame % 4, 0))
                    for frame, strength in enumerate(shown)
                ]
                write_pictures(folder / name / emotion / f"{person:09d}.avi", pictures)
                truth += [[f"{emotion}/{person:09d}", frame, shown[frame], 0, emotion] for frame in range(frames)]
        with (folder / name / "frames.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["clip", "frame", "intensity", "occluded", "emotion"], *truth])
    return folder


def draw_crema_d(folder: Path, *, actors: int = 5, frames: int = 2) -> Path:
    """Videos of ``actors`` actors 1001, 1002, ..., one for each of the six emotions. Returns ``folder``."""
    for actor in range(1001, 1001 + actors):
        for code, emotion in CREMA_D.items():
            path = folder / "VideoFlash" / f"{actor}_DFA_{code}_XX.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_pictures(path, [draw_face(emotion, 1, actor, shift=(frame, 0)) for frame in range(frames)])
    return folder


def draw_ravdess(folder: Path, *, actors: int = 6, frames: int = 2) -> Path:
    """Videos of actors 01, 02, ..., for each emotion one of speech, with sound and, the same, without.

    Calm is drawn as Neutral. Returns ``folder``.
    """
    for actor in range(1, actors + 1):
        below = folder / f"Video_Speech_Actor_{actor:02d}" / f"Actor_{actor:02d}"
        below.mkdir(parents=True)
        for code, name in RAVDESS.items():
            emotion = "Neutral" if name == "Calm" else name
            for mode in ("01", "02"):
                pictures = [draw_face(emotion, 1, 2000 + actor, shift=(frame, 0)) for frame in range(frames)]
                write_pictures(below / f"{mode}-01-{code:02d}-01-01-01-{actor:02d}.avi", pictures)
    return folder


def draw_dfew(folder: Path, *, clips: int = 2, frames: int = 2, unlisted: int = 1) -> Path:
    """``clips`` folders of images for each official test list, of consecutive emotions, and ``unlisted`` in no list.

    Clip n, from 1, is tested on by the list of set (n - 1) % 5 + 1. Returns ``folder``.
    """
    names = [*range(1, 5 * clips + unlisted + 1)]
    for number in names:
        below = folder / "Clip" / "clip_224x224" / f"{number:05d}"
        below.mkdir(parents=True)
        for frame in range(frames):
            picture = draw_face(DFEW[(number - 1) % 7 + 1], 1, 3000 + number, shift=(frame, 0))
            cv2.imwrite(str(below / f"{number:05d}_{frame + 1:05d}.jpg"), picture[..., ::-1])
    listed = names[: 5 * clips]
    for place in range(5):
        for part, tested in (("train", False), ("test", True)):
            rows = [(number, (number - 1) % 7 + 1) for number in listed if ((number - 1) % 5 == place) == tested]
            path = folder / "EmoLabel_DataSplit" / f"{part}(single-labeled)" / f"set_{place + 1}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("video_name,label\n" + "".join(f"{number},{label}\n" for number, label in rows))
    return folder


def write_pictures(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """A Motion JPEG video of RGB pictures of SIZE."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE)
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def prepared_ckplus(folder: Path, *, folds: int | None = None, size: int = CROP, **drawn: int) -> Path:
    """The prepared set of ``draw_ckplus(**drawn)``, both below ``folder``; a fold for every subject if not said."""
    source = draw_ckplus(folder / "ckplus", **drawn)
    folds = folds or drawn.get("subjects", 5)
    prepare("ckplus", source, folder / "prepared-ckplus", size=size, detector=DrawnFaces(), folds=folds)
    return folder / "prepared-ckplus"


def prepared_afew(folder: Path, *, size: int = CROP, **drawn: int) -> Path:
    """The prepared set of ``draw_afew(**drawn)``, both below ``folder``."""
    source = draw_afew(folder / "afew", **drawn)
    prepare("afew", source, folder / "prepared-afew", size=size, detector=DrawnFaces())
    return folder / "prepared-afew"
