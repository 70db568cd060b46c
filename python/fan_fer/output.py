"""Writing results: JSON, CSV, and the rule that a file appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fan_fer.errors import OutputError
from fan_fer.prediction import SCHEMA_VERSION, ClipPrediction, tracks_to_dict

PICTURES = (".png", ".pdf", ".svg", ".jpg", ".webp")
LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def check_writable(path: Path) -> None:
    """Raises OutputError where :func:`atomic_write` could not put ``path``; leaves nothing behind."""
    target = _resolve(path)
    if target.is_dir():
        raise OutputError(f"{path}: is a folder; the name of a file is wanted")
    if _is_special(target):
        return
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {target.parent}")
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(f"{path}: is write-protected")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot write in {target.parent} ({error.strerror})") from None


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Raises OutputError where files of these names could not be written to ``folder``; makes nothing."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{folder}: {existing} is no folder; the name of a folder is wanted")
    for name in names:
        check_writable(existing / name)


def make_folder(folder: Path) -> None:
    """Makes the folder, and those that it is in. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from None


def check_picture(path: Path) -> None:
    """Raises OutputError where the suffix does not name a format that plots are written in."""
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"{path}: the name of a plot ends in one of {' '.join(PICTURES)}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary name in the folder of ``path`` to write to; renames it when the block ends well.

    A failure leaves no trace, and an older file as it was. Pipes and devices are written to directly. Raises
    OutputError in place of OSError.
    """
    target = _resolve(path)
    temporary = target if _is_special(target) else target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        if temporary != target:
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary != target:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Writes a text in UTF-8, with ``errors`` as for str.encode. Raises OutputError."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors))


def clip_json(prediction: ClipPrediction | Sequence[ClipPrediction]) -> str:
    """One clip as JSON, a line for every frame: the subject, or everyone as ``Recognizer.predict_faces`` gives them."""
    return _object_json(prediction, indent="") + "\n"


def batch_json(predictions: Sequence[ClipPrediction | Sequence[ClipPrediction]], failures: Mapping[Path, str]) -> str:
    """Several clips as JSON; ``failures`` maps the videos that could not be done to what was wrong."""
    clips = ",\n".join("    " + _object_json(prediction, indent="    ") for prediction in predictions)
    errors = json.dumps([{"video": str(video), "error": error} for video, error in failures.items()])
    return f'{{\n  "schema_version": {SCHEMA_VERSION},\n  "clips": [\n{clips}\n  ],\n  "failures": {errors}\n}}\n'


def write_csv(path: Path, predictions: Iterable[ClipPrediction]) -> None:
    """One row per frame of every clip, empty cells where there is no face. Raises OutputError.

    Predictions of tracks have a column more, with the track's number, and one row per frame of the track's span.
    """
    text = io.StringIO(newline="")
    _write_rows(text, predictions)
    # The name of a video need not be valid text.
    write_text(path, text.getvalue(), errors="backslashreplace")


def _write_rows(file: IO[str], predictions: Iterable[ClipPrediction]) -> None:
    writer: csv.DictWriter[str] | None = None
    for prediction in predictions:
        track = {} if prediction.track is None else {"track": prediction.track}
        for frame in (frame.to_dict() for frame in (prediction.span if track else prediction.frames)):
            row = {"video": prediction.video, **track, "label": prediction.label}
            row |= {"frame": frame["index"], "time": frame["time"]}
            row |= dict(zip(("x", "y", "width", "height"), frame["box"] or [None] * 4, strict=True))
            for name, point in zip(LANDMARKS, frame["landmarks"] or [(None, None)] * 5, strict=True):
                row |= {f"{name}_x": point[0], f"{name}_y": point[1]}
            row |= {name: frame[name] for name in ("alpha", "beta", "weight", "emotion")}
            own = frame["probabilities"] or {}
            row |= {f"p_{name}": own.get(name) for name in prediction.probabilities}
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)


def _object_json(prediction: ClipPrediction | Sequence[ClipPrediction], indent: str) -> str:
    members = prediction.to_dict() if isinstance(prediction, ClipPrediction) else tracks_to_dict(prediction)
    return _layout(members, indent)


def _layout(members: Mapping[str, Any], indent: str) -> str:
    """An object as JSON with a line for each member, each frame and each member of a track."""
    lines = []
    for name, value in members.items():
        if name == "frames":
            items = [json.dumps(frame, allow_nan=False) for frame in value]
        elif name == "tracks":
            items = [_layout(track, indent + "    ") for track in value]
        else:
            lines.append(f'{indent}  "{name}": {json.dumps(value, allow_nan=False)}')
            continue
        inner = f",\n{indent}    ".join(items)
        lines.append(f'{indent}  "{name}": [\n{indent}    {inner}\n{indent}  ]')
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _resolve(path: Path) -> Path:
    """Through symbolic links, so that a link is kept and its target replaced."""
    return Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    """A pipe or a device: renaming a file over /dev/null would be a bad joke."""
    return path.exists() and not path.is_file() and not path.is_dir()
