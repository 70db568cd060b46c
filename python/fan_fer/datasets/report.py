"""What ``fan-fer prepare`` shows when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fan_fer.datasets.files import CLIPS_FILE, NO_FACE, OK, UNREADABLE
from fan_fer.datasets.listing import natural
from fan_fer.datasets.prepare import Preparation
from fan_fer.video.sources import not_taken

NAMED = 10  # clips named on the terminal; the table names all


def summary(preparation: Preparation, seconds: float) -> RenderableType:
    """Clips and faces per class, who is in which fold, how many of what there are, what was left out and why."""
    settings, clips = preparation.settings, preparation.clips
    parts: list[RenderableType] = [_classes(settings.classes, clips), ""]
    if settings.folds is not None:
        parts += [_folds(settings.folds, clips), ""]
    subjects = len({row["subject"] for row in clips if row["subject"]})
    held = {"clip": len(clips), "subject": subjects, "fold": settings.folds or 0, "class": len(settings.classes)}
    parts.append(Text(", ".join(_count(count, what) for what, count in held.items() if count)))
    labels = {str(row["label"]) for row in clips}
    if len(labels) == 1:
        parts.append(Text(f"all clips are of one class, {labels.pop()}: there is nothing to learn"))
    parts += [Text(note) for note in preparation.notes]
    if settings.without_label:
        parts.append(Text(f"{settings.without_label} skipped, the source gives them no label"))
    if preparation.not_taken:
        parts.append(Text(not_taken(preparation.not_taken)))
    for status, what in ((NO_FACE, "without a face"), (UNREADABLE, "unreadable")):
        names = [str(row["clip"]) for row in clips if row["status"] == status]
        if names:
            more = f" and others, see {CLIPS_FILE}" if len(names) > NAMED else ""
            parts.append(Text(f"{len(names)} {what}, left out: {', '.join(names[:NAMED])}{more}"))
    frames, faces = (sum(row[name] for row in clips) for name in ("frames", "faces"))
    before = f" ({preparation.found_done} were done before)" if preparation.found_done else ""
    counts = f"{len(clips)} clips{before}, {frames} frames, {faces} with a face ({faces / max(frames, 1):.1%})"
    parts.append(Text(f"{counts}; {seconds:.1f} s", style="dim"))
    return Group(*parts)


def _classes(classes: Sequence[str], clips: Sequence[dict[str, Any]]) -> Table:
    """Clips with a face by class and split, and their frames."""
    splits = sorted({row["split"] for row in clips if row["split"]}, key=("train", "val", "test").index)
    table = Table("class", box=box.SIMPLE_HEAD)
    for column in (*splits, "clips", "frames", "with a face"):
        table.add_column(column, justify="right")
    for name in (*classes, None):
        rows = [row for row in clips if row["status"] == OK and name in (row["label"], None)]
        by_split = [str(sum(row["split"] == split for row in rows)) for split in splits]
        totals = [str(len(rows)), *(str(sum(row[column] for row in rows)) for column in ("frames", "faces"))]
        if name is None:
            table.add_section()
        table.add_row(Text(name or "all"), *by_split, *totals)
    return table


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}"


def _folds(folds: int, clips: Sequence[dict[str, Any]]) -> Table:
    """Clips with a face by fold and, where persons are known, who is in which."""
    named = any(row["subject"] for row in clips)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("fold", "clips", *(("subjects",) if named else ())):
        table.add_column(column, justify="right")
    if named:
        table.add_column("tests on", overflow="fold")
    for fold in range(1, folds + 1):
        rows = [row for row in clips if row["fold"] == fold]
        subjects = sorted({row["subject"] for row in rows if row["subject"]}, key=natural)
        people = (str(len(subjects)), Text(" ".join(subjects))) if named else ()
        table.add_row(str(fold), str(sum(row["status"] == OK for row in rows)), *people)
    return table
