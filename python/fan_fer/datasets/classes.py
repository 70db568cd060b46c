"""Which classes of a source are kept, and which of its labels are put together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from fan_fer.base.errors import DataError
from fan_fer.base.names import name_key, tidy
from fan_fer.datasets.listing import Source

LEFT_OUT = "-"


def pick_classes(path: Path, source: Source, text: str) -> Source:
    """The source with the classes that ``text`` names: "Happy,Sad,Neutral,Calm=Neutral".

    CLASS keeps a class, LABEL=CLASS puts a label into a class, which keeps its own clips, LABEL=- leaves it out. Where
    none is only kept, as in "Calm=Neutral", all others stay as they are. Classes are in alphabetical order.
    Raises DataError for other texts, for labels that the source does not have, and where less than two classes stay.
    """
    known = {name_key(name): name for name in source.classes}
    chosen: dict[str, str] = {}
    for part in text.split(","):
        label, sign, target = part.partition("=")
        key, name = name_key(label), tidy(target if sign else label)
        if not key or not name:
            raise DataError(f"--classes {text}: CLASS,CLASS,LABEL=CLASS is wanted, such as Happy,Sad,Calm=Neutral")
        if key not in known:
            raise DataError(f"--classes {text}: {path} has no class {tidy(label)}; it has {', '.join(source.classes)}")
        if key in chosen:
            raise DataError(f"--classes {text}: {known[key]} is there twice")
        chosen[key] = known.get(name_key(name), name)
    into = {name_key(name): name for name in chosen.values() if name_key(name) in known}
    chosen = (known if all("=" in part for part in text.split(",")) else into) | chosen
    classes = tuple(sorted(set(chosen.values()) - {LEFT_OUT}))
    if len(classes) < 2:
        raise DataError(f"--classes {text}: two classes or more are wanted")
    labels = {clip.label: chosen.get(name_key(clip.label), LEFT_OUT) for clip in source.clips}
    clips = tuple(replace(clip, label=labels[clip.label]) for clip in source.clips if labels[clip.label] != LEFT_OUT)
    if not clips:
        raise DataError(f"--classes {text}: {path} has no clip of {', '.join(classes)}")
    left = Counter(clip.label for clip in source.clips if labels[clip.label] == LEFT_OUT)
    notes = [f"left out with --classes: {', '.join(f'{count} {name}' for name, count in sorted(left.items()))}"]
    return replace(source, classes=classes, clips=clips, notes=(*source.notes, *(notes if left else ())))
