"""Sets of actors whose files' names, or folders', say who shows what: CREMA-D, RAVDESS and MEAD."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import DataError, VideoError
from fan_fer.base.files import real_path
from fan_fer.base.names import name_key
from fan_fer.datasets.listing import Source, SourceClip, contents, natural
from fan_fer.video.paths import POINTER, check_pointer, read_bytes
from fan_fer.video.sources import VIDEO_SUFFIXES, visible_files

CREMA_D = {"ANG": "Angry", "DIS": "Disgust", "FEA": "Fear", "HAP": "Happy", "NEU": "Neutral", "SAD": "Sad"}
CREMA_D_CLIPS = 7442
RAVDESS = dict(enumerate(("Neutral", "Calm", "Happy", "Sad", "Angry", "Fear", "Disgust", "Surprise"), 1))
RAVDESS_TAKES = {"01": ("speech", 1440), "02": ("song", 1012)}
MEAD = {"disgusted": "Disgust", "surprised": "Surprise", "contempt": "Contempt"} | {
    name_key(name): name for name in EMOTIONS if name not in ("Disgust", "Surprise")
}
MEAD_VIEWS = ("front", "left_30", "right_30", "top", "down", "left_60", "right_60")  # the first that there is counts

_CREMA_D = re.compile(r"(?P<actor>1\d{3})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_(LO|MD|HI|XX?)")
_RAVDESS = re.compile(r"0(?P<mode>[12])-0[12]-0(?P<emotion>[1-8])-0[12]-0[12]-0[12]-(?P<actor>0[1-9]|1\d|2[0-4])")
_MEAD_PERSON = re.compile(r"[MW]\d{3}(?!\d)", re.IGNORECASE)
_MEAD_LEVEL = re.compile(r"level_?([123])", re.IGNORECASE)


class _Take(NamedTuple):
    """What the path of a file says."""

    key: tuple[object, ...]  # equal for files that show the same take
    rank: int  # of several files the one with the lowest counts
    kind: str  # what is said of files with this rank
    name: str
    label: str
    subject: str


_Parse = Callable[[Sequence[str]], "_Take | None"]  # of the names of folders, that of the root first, and of a file


def crema_d(root: Path) -> Source:
    """CREMA-D: VideoFlash/1001_DFA_ANG_XX.flv, named after actor, sentence, emotion and level."""

    def parse(parts: Sequence[str]) -> _Take | None:
        name = Path(parts[-1]).stem.upper()
        match = _CREMA_D.fullmatch(name)
        if match is None or match["emotion"] not in CREMA_D:
            return None
        return _Take((name,), 0, "", f"{match['actor']}/{name}", CREMA_D[match["emotion"]], match["actor"])

    source = _read(root, "crema-d", "VideoFlash/1001_DFA_ANG_XX.flv", parse)
    return _counted(source, "clips", CREMA_D.values(), {"CREMA-D": (len(source.clips), CREMA_D_CLIPS)})


def ravdess(root: Path) -> Source:
    """RAVDESS: Video_Speech_Actor_01/Actor_01/01-01-03-01-01-01-01.mp4, whatever the folders.

    A take lies there with sound (01) and without (02), in the same pictures: where both are there, with sound counts.
    """

    def parse(parts: Sequence[str]) -> _Take | None:
        name = Path(parts[-1]).stem
        match = _RAVDESS.fullmatch(name)
        if match is None:
            return None
        emotion, actor, mode = RAVDESS[int(match["emotion"])], match["actor"], int(match["mode"])
        return _Take((name[2:],), mode, "without sound", f"Actor_{actor}/{name}", emotion, actor)

    source = _read(root, "ravdess", "Video_Speech_Actor_01/Actor_01/01-01-03-01-01-01-01.mp4", parse)
    voices = Counter(Path(clip.name).name[3:5] for clip in source.clips)
    whole = {f"RAVDESS's {voice}": (voices[code], count) for code, (voice, count) in RAVDESS_TAKES.items()}
    return _counted(source, "takes", RAVDESS.values(), whole)


def mead(root: Path) -> Source:
    """MEAD: M003/video/front/angry/level_1/001.mp4. Of a take the first of MEAD_VIEWS that there is counts."""

    def parse(parts: Sequence[str]) -> _Take | None:
        *above, view, emotion, level, name = ("", "", "", *parts)
        people = [match[0].upper() for part in above if (match := _MEAD_PERSON.match(part))]
        views = [rank for rank, known in enumerate(MEAD_VIEWS) if name_key(known) == name_key(view)]
        strength, number = _MEAD_LEVEL.fullmatch(level), Path(name).stem
        label = MEAD.get(name_key(emotion))
        if not (people and views and strength and label and number.isdecimal()):
            return None
        key = (people[-1], label, strength[1], int(number))
        view = MEAD_VIEWS[views[0]]
        named = f"{people[-1]}/{view}/{name_key(emotion)}/level_{strength[1]}/{int(number):03d}"
        return _Take(key, views[0], "from another side", named, label, people[-1])

    source = _read(root, "mead", "M003/video/front/angry/level_1/001.mp4", parse)
    return _counted(source, "takes", MEAD.values(), {})


def _read(root: Path, layout: str, example: str, parse: _Parse) -> Source:
    """The takes among the videos below ``root``, each once.

    Of several files of a take one that is empty, or a pointer of Git LFS, counts last.
    Raises DataError where there is none, and where the first of them is such a pointer.
    """
    files = list(visible_files(root))
    videos = sorted(
        (file for file in files if file.suffix.lower() in VIDEO_SUFFIXES), key=lambda file: natural(str(file))
    )
    top = real_path(root).name
    takes = [(take, file) for file in videos if (take := parse((top, *file.relative_to(root).parts)))]
    if not takes:
        sound = next((file.relative_to(root) for file in files if file.suffix.lower() in (".wav", ".mp3")), None)
        only = f", only sound ({sound})" if sound else ""
        raise DataError(
            f"{root}: not the {layout} layout, there is no video of such a name in it{only}; "
            f"wanted {example} and the like; {contents(root)}"
        )
    copies = Counter(take.key for take, _ in takes)
    chosen: dict[tuple[object, ...], tuple[_Take, Path]] = {}
    for take, file in sorted(takes, key=lambda pair: (copies[pair[0].key] > 1 and _is_hollow(pair[1]), pair[0].rank)):
        chosen.setdefault(take.key, (take, file))
    first = min(chosen.values(), key=lambda pair: natural(pair[0].name))[1]
    try:
        check_pointer(read_bytes(first, len(POINTER)), str(first))
    except VideoError as error:
        raise DataError(str(error)) from None
    clips = [
        SourceClip(take.name, take.label, file.relative_to(root).as_posix(), subject=take.subject)
        for take, file in sorted(chosen.values(), key=lambda pair: natural(pair[0].name))
    ]
    taken = {file for _, file in chosen.values()}
    other = Counter(
        take.kind if take.rank > chosen[take.key][0].rank else "as copies" for take, file in takes if file not in taken
    )
    twice = ", ".join(f"{count} {kind}" for kind, count in other.items())
    notes = [f"more files of the same takes, each of which counts once: {twice}"] if twice else []
    odd = sorted(set(videos) - {file for _, file in takes}, key=lambda file: natural(str(file)))
    not_taken = tuple(file.relative_to(root).as_posix() for file in odd)
    return Source(root, (), tuple(clips), notes=tuple(notes), not_taken=not_taken)


def _is_hollow(file: Path) -> bool:
    try:
        return read_bytes(file, len(POINTER)) in (b"", POINTER)
    except VideoError:
        return True


def _counted(source: Source, what: str, classes: Iterable[str], wholes: Mapping[str, tuple[int, int]]) -> Source:
    """The source with its classes, and with a note for each part that is there and not whole: how many of how many."""
    notes = [
        f"{count} of the {whole} {what} of {name} are there"
        for name, (count, whole) in wholes.items()
        if 0 < count < whole
    ]
    return replace(source, classes=tuple(sorted(classes)), notes=(*notes, *source.notes))
