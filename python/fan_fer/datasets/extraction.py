"""One clip of a data set made into a folder of aligned faces, which appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fan_fer.base.errors import OutputError, VideoError, one_line
from fan_fer.base.files import exists
from fan_fer.base.opencv import cv2
from fan_fer.base.texts import parse_json, to_json
from fan_fer.datasets.files import CROPS_FOLDER, FACE_COLUMNS, NO_FACE, OK, UNREADABLE
from fan_fer.datasets.listing import SourceClip
from fan_fer.datasets.prepared import crop_file
from fan_fer.faces.clip_faces import Image, find_faces, frame_times
from fan_fer.faces.face import Detector, Face
from fan_fer.faces.tracking import Tracker
from fan_fer.video.frame import Clip
from fan_fer.video.images import Images
from fan_fer.video.sources import open_clip

PARTIAL_FOLDER = ".partial"  # clips being worked on, each under its name
_RECORD = "record.json"  # in a clip's folder, beside the crops


@dataclass(frozen=True)
class Task:
    """What is to be done with every clip. ``target`` is the prepared set's folder."""

    root: Path
    target: Path
    size: int
    template: tuple[tuple[float, float], ...]

    def extract(self, clip: SourceClip, detector: Detector, report: Callable[..., None] | None = None) -> None:
        """Writes the clip's crops and its record. ``report`` is called after every frame.

        Raises VideoError where no frame of the clip can be read, OutputError where the crops cannot be written.
        """
        frames = _open(self.root / clip.source, clip)
        partial = self.target / PARTIAL_FOLDER / clip.name
        shutil.rmtree(partial, ignore_errors=True)  # of a process that died
        try:
            partial.mkdir(parents=True, exist_ok=True)
            rows = self._extract(frames, detector, partial, report)
            notes = [clip.note] if clip.note else []
            notes += [*frames.warnings, *frames.damaged.values()]
            record = {"source": clip.source, "notes": [self.shorten(note) for note in notes], "frames": rows}
            (partial / _RECORD).write_text(to_json(record), "utf-8")
            self._put(partial, clip)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise VideoError(f"{self.root / clip.source}: its name is too long for the prepared set") from None
            raise OutputError(f"{error.filename or partial}: cannot be written ({error.strerror})") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def shorten(self, message: str) -> str:
        """A message without the root of the paths in it, which differs where the same set lies elsewhere."""
        return message.replace(one_line(f"{self.root}{os.sep}"), "")

    def record(self, clip: SourceClip) -> dict[str, Any] | None:
        """What was found in a clip that is done: ``source``, ``notes``, ``frames``. None if it is not done."""
        folder = self.target / CROPS_FOLDER / clip.name
        try:
            record: dict[str, Any] = parse_json((folder / _RECORD).read_bytes())
            present = set(os.listdir(folder))  # noqa: PTH208, names alone are wanted
        except (OSError, ValueError):
            return None
        wanted = {crop_file(folder, row["frame"]).name for row in record["frames"] if row["status"] == OK}
        return record if wanted <= present else None

    def _extract(
        self, clip: Clip, detector: Detector, folder: Path, report: Callable[..., None] | None
    ) -> list[dict[str, Any]]:
        """Writes the crops of the person whom a recognizer would choose; returns a row for every frame."""
        tracker = Tracker()
        times: dict[int, float] = {}
        written = 0
        with closing(find_faces(clip, detector, self.size, self.template)) as watched:
            for seen in watched:
                frame = seen.frame
                times[frame.index] = frame.time
                tracker.add(frame.index, frame.time, seen.faces, seen.looks, seen.change)
                # Whose the faces are is known at the end; until then everyone's are kept.
                for crop in seen.crops:
                    _write_png(_row_file(folder, written), crop)
                    written += 1
                if report is not None:
                    report(len(times))
        if not times:
            raise VideoError(next(iter(clip.damaged.values()), "no frame of this video can be decoded"))
        people = tracker.people()
        subject = {sighting.frame: sighting for sighting in people[0]} if people else {}
        for number, sighting in subject.items():
            _row_file(folder, sighting.row).rename(crop_file(folder, number))
        for row in range(written):
            _row_file(folder, row).unlink(missing_ok=True)
        rows = []
        for number, time in frame_times(times, clip.damaged):
            status = OK if number in subject else UNREADABLE if number in clip.damaged else NO_FACE
            face = subject[number].face if number in subject else None
            rows.append({"frame": number, "time": round(time, 6), "status": status, **_face_cells(face)})
        return rows

    def _put(self, partial: Path, clip: SourceClip) -> None:
        folder = self.target / CROPS_FOLDER / clip.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        if exists(folder):  # one that lost files
            shutil.rmtree(folder)
        partial.rename(folder)


def done_clips(target: Path) -> list[str]:
    """Names of all clips that lie in a prepared set's folder."""
    crops = target / CROPS_FOLDER
    return sorted(Path(folder).relative_to(crops).as_posix() for folder, _, files in os.walk(crops) if _RECORD in files)


def _open(path: Path, clip: SourceClip) -> Clip:
    if clip.images is None:
        return open_clip(path)
    if not clip.images:
        raise VideoError(f"{path}: there is no image; {clip.note or 'the frames of the clip are wanted'}")
    return Images([path / name for name in clip.images])


def _row_file(folder: Path, row: int) -> Path:
    return folder / f"face-{row}.png"


def _write_png(path: Path, crop: Image) -> None:
    # A quarter smaller than the default, for milliseconds beside those that finding the face takes.
    _, png = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    path.write_bytes(png.tobytes())


def _face_cells(face: Face | None) -> dict[str, float]:
    if face is None:
        return {}
    values = [*face.box, *face.landmarks.ravel().tolist(), face.score]
    return {name: round(float(value), 4) for name, value in zip(FACE_COLUMNS, values, strict=True)}
