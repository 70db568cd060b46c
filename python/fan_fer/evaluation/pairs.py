"""Which generated clip belongs to which real one."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fan_fer.base.errors import DataError
from fan_fer.base.files import is_folder
from fan_fer.base.names import Spellings, name_key, quoted
from fan_fer.evaluation.clips import EvaluatedClip, column_key, find_column, read_videos
from fan_fer.video.sources import list_videos, not_taken, open_clip, passed_over

GENERATOR, INTENSITY = "generator", "intensity"  # columns that are looked for
ALONE = "no {} clip of that {}"
WANTED = "a CSV with the columns video[,label,...], or a folder of clips, is wanted"


@dataclass(frozen=True)
class Side:
    """The real clips, or the generated ones.

    path: as it was given, a CSV file or a folder. folder: what the clips' names are relative to.
    warnings: a line about files of the folder that are none of the clips.
    """

    path: Path
    folder: Path
    clips: tuple[EvaluatedClip, ...]
    warnings: tuple[str, ...] = ()

    def parts(self, clip: EvaluatedClip) -> tuple[str, ...]:
        """Folders and name of a clip, without suffix; of a CSV file below the folder that all its clips are in."""
        path = self._whole(clip)
        shown = (path if is_folder(path) else path.with_suffix("")).relative_to(self._top)
        return tuple(unicodedata.normalize("NFC", part) for part in shown.parts)

    @property
    def has_columns(self) -> bool:
        return not is_folder(self.path)

    @cached_property
    def _top(self) -> Path:
        if not self.has_columns:
            return _absolute(self.folder)
        return Path(os.path.commonpath([self._whole(clip).parent for clip in self.clips]))

    def _whole(self, clip: EvaluatedClip) -> Path:
        return _absolute(self.folder / clip.name)


@dataclass(frozen=True)
class Pair:
    """A generated clip and the real one that it stands for.

    about: the columns of the generated clip, and those of the real one that it lacks.
    generator: who made it: its column, or the folders that its name has before the real clip's; else empty.
    """

    real: EvaluatedClip
    generated: EvaluatedClip
    about: Mapping[str, str]
    generator: str = ""

    @property
    def truths(self) -> tuple[int, int] | None:
        """The class that the generated clip is to show and that of the real one; None where either has none.

        A clip without a label has that of the other.
        """
        first = self.generated if self.generated.label else self.real
        second = self.real if self.real.label else self.generated
        generated, real = first.truth, second.truth
        return None if generated is None or real is None else (generated, real)


@dataclass(frozen=True)
class Pairing:
    """The pairs, in the order of the generated clips, and why clips of either side are in none, by their names.

    notes: which spellings of generators were taken for one.
    """

    how: str
    pairs: tuple[Pair, ...]
    real_alone: Mapping[str, str]
    generated_alone: Mapping[str, str]
    notes: tuple[str, ...] = ()


def read_side(path: Path) -> Side:
    """The clips of a CSV file with the column ``video``, or of a folder: its videos, or its folders of pictures.

    Raises DataError, and VideoError for a folder without any.
    """
    if not is_folder(path):
        return Side(path, path.parent, tuple(read_videos(path, WANTED)))
    found = list_videos([path])
    folder = path
    if found == [path]:  # one clip, of pictures
        open_clip(path)
        folder = _absolute(path).parent
    names = [str(_absolute(video).relative_to(_absolute(folder))) for video in found]
    others = passed_over(path)
    warnings = (f"{path}: {not_taken(others)}",) if others else ()
    return Side(path, folder, tuple(EvaluatedClip(name, {"video": name}, "") for name in names), warnings)


def _absolute(path: Path) -> Path:
    """Without dots; links are kept, whose names count."""
    return Path(os.path.normpath(path.absolute()))


def make_pairs(real: Side, generated: Side, column: str | None = None) -> Pairing:
    """Pairs by a column that both have, or by the clips' names.

    By name, a real clip whose name no other has gets the generated ones of that name, wherever they lie. Where several
    real clips have the name, a generated one belongs to the one whose folders and name end its own. Raises DataError
    where a real clip is there twice, a column is not there, or nothing is paired.
    """
    for side in (real, generated):
        twice = [name for name, count in Counter(clip.name for clip in side.clips).items() if count > 1]
        if twice:
            raise DataError(f"{side.path}: names {quoted(twice)} twice; every clip once is wanted")
    made = _by_column(real, generated, column) if column else _by_name(real, generated)
    if not made.pairs:
        hint = "" if column else "; --pair COLUMN pairs by a column of both"
        why = next(iter(made.generated_alone.items()))
        raise DataError(
            f"{generated.path}: none of its {len(generated.clips)} clips has its real clip in {real.path} "
            f"({why[0]}: {why[1]}){hint}"
        )
    return made


def _by_column(real: Side, generated: Side, column: str) -> Pairing:
    columns = []
    for side in (real, generated):
        found = find_column(side.clips, column)
        if found is None:
            raise DataError(f"--pair {column}: {side.path} has no such column; it has {', '.join(side.clips[0].about)}")
        columns.append(found)
    key = column_key(column)
    owners: dict[str, EvaluatedClip] = {}
    alone: dict[str, str] = {}
    for clip in real.clips:
        value = key(clip.about[columns[0]])
        if value and owners.setdefault(value, clip) is not clip:
            same = quoted([owners[value].name, clip.name], " and ")
            raise DataError(f"{real.path}: the clips {same} have one {column}; every real clip its own is wanted")
    pairs = []
    for clip in generated.clips:
        value = clip.about[columns[1]]
        owner = owners.get(key(value))
        if owner is None:
            alone[clip.name] = ALONE.format("real", column) if value else f"its {column} is empty"
        else:
            pairs.append(_pair(owner, clip))
    return _pairing(f"by the column {column}", real, pairs, alone, column)


def _by_name(real: Side, generated: Side) -> Pairing:
    named: dict[str, list[tuple[tuple[str, ...], EvaluatedClip]]] = {}
    for clip in real.clips:
        parts = real.parts(clip)
        named.setdefault(parts[-1], []).append((parts, clip))
    pairs = []
    alone: dict[str, str] = {}
    for clip in generated.clips:
        parts = generated.parts(clip)
        offered = named.get(parts[-1], [])
        ending = [own for own in offered if parts[-len(own[0]) :] == own[0]]
        longest = max((len(own) for own, _ in ending), default=0)
        fitting = [own for own in ending if len(own[0]) == longest] or (offered if len(offered) == 1 else [])
        if len(fitting) == 1:
            before = parts[: -longest or -1]
            pairs.append(_pair(fitting[0][1], clip, "" if generated.has_columns else "/".join(before)))
        elif not offered:
            alone[clip.name] = ALONE.format("real", "name")
        else:
            alone[clip.name] = f"{len(offered)} real clips have that name, and the folders do not tell which it is"
    return _pairing("by name", real, pairs, alone, "name")


def _pair(real: EvaluatedClip, generated: EvaluatedClip, folders: str = "") -> Pair:
    """folders: what stands for the generator where there is no such column."""
    own = {name_key(name) for name in generated.about}
    about = {**generated.about, **{name: cell for name, cell in real.about.items() if name_key(name) not in own}}
    column = find_column([generated], GENERATOR)
    return Pair(real, generated, about, generated.about[column] if column else folders)


def _pairing(how: str, real: Side, pairs: Sequence[Pair], alone: dict[str, str], what: str) -> Pairing:
    taken = {pair.real.name for pair in pairs}
    left = {clip.name: ALONE.format("generated", what) for clip in real.clips if clip.name not in taken}
    makers = Spellings("generators")
    kept = [replace(pair, generator=makers.keep(pair.generator)) if pair.generator else pair for pair in pairs]
    return Pairing(how, tuple(kept), left, alone, tuple(makers.notes()))
