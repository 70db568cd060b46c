"""The clips of a data set as it lies on disk, and how its folders are looked through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fan_fer.base.errors import DataError
from fan_fer.base.files import is_folder
from fan_fer.base.names import name_key
from fan_fer.video.sources import IMAGE_SUFFIXES, is_visible, pick_videos


@dataclass(frozen=True)
class SourceClip:
    """A labelled clip of a source; ``source`` is a path below the source's root.

    images: the names of its frames where ``source`` is a folder of images; None where it is a video.
    note: what is odd about it and does not stop the work.
    """

    name: str
    label: str
    source: str
    images: tuple[str, ...] | None = None
    split: str | None = None
    subject: str | None = None
    fold: int | None = None
    note: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Source:
    """The clips of a data set, in the order in which the source lists them.

    classes: in the order that networks use; of a layout that has none of its own empty, until its labels are known.
    folds: how many, where the source divides its clips itself.
    notes: what people should know of it, such as which spellings of labels and persons were taken for one.
    """

    root: Path
    classes: tuple[str, ...]
    clips: tuple[SourceClip, ...]
    folds: int | None = None
    without_label: int = 0  # clips left out because the source gives them no label
    notes: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()  # files in the folders of clips that are part of none


def natural(name: str) -> list[object]:
    """A key that sorts names with numbers by the numbers: frame2 before frame10."""
    parts = re.split(r"(\d+)", name)
    return [[(len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else part.lower() for part in parts], name]


def find_folder(root: Path, name: str) -> Path | None:
    """The folder of that name in ``root`` or one level down, in any case: archives are unpacked in either way."""
    children = folders_in(root)
    below = [folder for child in children for folder in folders_in(child)]
    for level in (children, below):
        found = [folder for folder in level if name_key(folder.name) == name_key(name)]
        if len(found) > 1:
            raise DataError(f"{found[1]}: bears the same name as {found[0]}; one folder {name} is wanted")
        if found:
            return found[0]
    return None


def folders_in(folder: Path) -> list[Path]:
    return sorted((entry for entry in visible(folder) if is_folder(entry)), key=lambda entry: natural(entry.name))


def files_in(folder: Path) -> list[Path]:
    return sorted((entry for entry in visible(folder) if not is_folder(entry)), key=lambda entry: natural(entry.name))


def videos_in(folder: Path) -> list[Path]:
    return pick_videos(files_in(folder))


def images_in(folder: Path) -> tuple[str, ...]:
    return tuple(file.name for file in files_in(folder) if file.suffix.lower() in IMAGE_SUFFIXES)


def clip_images(folder: Path) -> tuple[tuple[str, ...], str]:
    """The images of a clip; or none, and why its folder cannot be looked into."""
    try:
        return images_in(folder), ""
    except OSError as error:
        return (), f"the folder cannot be looked into ({error.strerror})"


def visible(folder: Path) -> Iterator[Path]:
    """Without .DS_Store and the like, and without what a Mac's archives leave elsewhere."""
    return (entry for entry in folder.iterdir() if is_visible(entry.name))


def contents(folder: Path) -> str:
    """What is found in a folder, for messages."""
    names = sorted(entry.name for entry in visible(folder))
    return f"found {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "found nothing"
