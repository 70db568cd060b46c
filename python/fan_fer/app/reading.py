"""What happens to a clip: every network reads it, its faces are kept as pictures, and the files for download are made.

Everything lies in the clip's own folder under names of our own:

    job.json                    what is known of the clip; where it is gone, nobody wants the clip any more
    clip                        the video as it came
    made/0/prediction.json ...  files of the first network, then 1/ and so on
    made/view.json              what the page shows beside the predictions
    made/faces/000012.jpg       the aligned face of frame 12
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fan_fer.app.comparison import compare
from fan_fer.app.uploads import Limits, check_upload, is_full
from fan_fer.attention.segments import SHORTEST
from fan_fer.attention.weights import find_weights
from fan_fer.base.errors import FanFerError, VideoError, fault_line, first_line, one_line
from fan_fer.base.files import exists, write_text
from fan_fer.base.opencv import cv2
from fan_fer.base.texts import write_json
from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.clip_faces import known_faces
from fan_fer.output.figure import strip_frames
from fan_fer.output.json_csv import clip_json, write_csv
from fan_fer.output.plot import write_plot
from fan_fer.output.prediction import Prediction
from fan_fer.prediction import ClipPrediction
from fan_fer.recognizer import Recognizer, faces_of, load_recognizer
from fan_fer.video.decoding import Video
from fan_fer.video.frame import Progress
from fan_fer.video.images import read_image
from fan_fer.video.sources import open_clip

JOB, VIDEO, MADE, FACES, VIEW = "job.json", "clip", "made", "faces", "view.json"
FILES = {"json": "prediction.json", "csv": "frames.csv", "png": "weights.png"}
FACE_SIZE = 256  # pixels of a kept face


@dataclass(frozen=True)
class Networks:
    """The networks that read, in order; the first finds the faces. It pickles where ``load`` does.

    names: how they are told apart. classes: of all of them. load: loads them, in the process that reads.
    abstain: the probability below which nothing has a label.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    load: Callable[[], Sequence[Recognizer]]
    abstain: float | None = None


def find_networks(
    weights: Sequence[Path | None],
    threads: int | None = None,
    abstain: float | None = None,
    min_segment: float = SHORTEST,
    **options: Any,
) -> Networks:
    """Loads them once, to see whether it can be done. Raises what ``load_recognizer`` does, and DetectorError.

    threads: of torch and of OpenCV where they read; None leaves them as they are.
    abstain, min_segment: as for ``Recognizer``.
    options: as for ``load_recognizer``.
    """
    paths = [find_weights(path) for path in weights]
    classes = dict.fromkeys(
        name for recognizer in _load(paths, None, min_segment, options) for name in recognizer.card.classes
    )
    return Networks(network_names(paths), tuple(classes), partial(_load, paths, threads, min_segment, options), abstain)


def _load(paths: Sequence[Path], threads: int | None, min_segment: float, options: dict[str, Any]) -> list[Recognizer]:
    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    recognizers = [load_recognizer(path, **options) for path in paths]
    for recognizer in recognizers:
        recognizer.min_segment = min_segment
    _ = recognizers[0].detector  # loaded before the first clip comes
    return recognizers


def network_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names of the weights files, with their folders where the names alone are the same."""
    stems = [path.stem for path in paths]
    return tuple(
        one_line(stem if stems.count(stem) == 1 else f"{path.parent.name}/{stem}")
        for path, stem in zip(paths, stems, strict=True)
    )


@dataclass(frozen=True)
class Task:
    """A clip to read: its id, its folder, what the user calls it, and whether a page is to show it."""

    id: str
    folder: Path
    name: str
    pictures: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a task: the frames that were read, or an error. full: the disk was; it may be tried again."""

    frames: int = 0
    error: str = ""
    full: bool = False


class Reader:
    """What a process that reads does."""

    def __init__(self, networks: Networks, limits: Limits) -> None:
        self._networks, self._limits = networks, limits
        self._recognizers = networks.load()

    def __call__(self, task: Task, report: Progress) -> Outcome:
        """Reads the clip and writes its files; whatever goes wrong is in the outcome."""

        def report_wanted(stage: str, done: int, total: int | None) -> None:
            if not exists(task.folder / JOB):
                raise FanFerError(f"{task.name}: cancelled")
            report(stage, done, total)

        made = task.folder / MADE
        try:
            shutil.rmtree(made, ignore_errors=True)  # what an earlier attempt left
            check_upload(task.folder / VIDEO, task.name, self._limits)
            made.mkdir()
            frames = read_clip(task, self._recognizers, self._networks, report_wanted)
        except Exception as error:  # a defect, or a full disk: one clip fails, the others go on
            shutil.rmtree(made, ignore_errors=True)
            known = isinstance(error, FanFerError)
            text = first_line(error) if known else f"{task.name}: could not be read ({fault_line(error)})"
            return Outcome(error=text.replace(str(task.folder), task.name), full=is_full(error))
        return Outcome(frames)


def read_clip(task: Task, recognizers: Sequence[Recognizer], networks: Networks, report: Progress) -> int:
    """Reads the video with every network and writes the files; the number of frames.

    ``report`` may raise, which ends the work. Raises VideoError where no face is found.
    """
    path, made, name = task.folder / VIDEO, task.folder / MADE, task.name
    try:
        first = recognizers[0].predict(path, report)
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), name)) from None
    if task.pictures:
        _save_faces(path, first, made / FACES, report)
    predictions = [first]
    for recognizer in recognizers[1:]:
        report("compare", 0, None)
        predictions.append(_read_again(path, first, recognizer, report))
    predictions = [
        replace(
            prediction.abstaining(networks.abstain),
            video=name,
            warnings=tuple(line.replace(str(path), name) for line in prediction.warnings),
        )
        for prediction in predictions
    ]
    for number, prediction in enumerate(predictions):
        report("files", number, len(predictions))
        _write_files(made / str(number), prediction, made / FACES if task.pictures else None)
    if task.pictures:
        height, width = Video(path).read([0])[0].shape[:2]
        told = [
            {"name": network, "variants": [asdict(variant) for variant in compare(prediction)]}
            for network, prediction in zip(networks.names, predictions, strict=True)
        ]
        write_json(made / VIEW, {"width": width, "height": height, "networks": told})
    return first.frames_total


def _save_faces(path: Path, prediction: ClipPrediction, folder: Path, report: Progress) -> None:
    """Writes every face of the clip as JPEG; decodes the video once more."""
    folder.mkdir()
    for seen in known_faces(open_clip(path), faces_of(prediction), FACE_SIZE, TEMPLATE.tolist()):
        for crop in seen.crops:
            encoded = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
            face_file(folder, seen.frame.index).write_bytes(encoded.tobytes())
        report("pictures", seen.frame.index + 1, prediction.frames_total)


def face_file(folder: Path, index: int) -> Path:
    """Where the face of a frame is kept in the folder of faces."""
    return folder / f"{index:06d}.jpg"


def _read_again(path: Path, first: ClipPrediction, recognizer: Recognizer, report: Progress) -> Prediction:
    """The same faces as another network reads them."""
    read = recognizer.predict(path, lambda _, done, total: report("compare", done, total), faces=first)
    return replace(read, model={**read.model, "detector": first.model["detector"]})


def _write_files(folder: Path, prediction: ClipPrediction, faces: Path | None) -> None:
    """The files that ``fan-fer predict`` writes with --json, --csv and, where faces are kept, --plot."""
    folder.mkdir()
    write_text(folder / FILES["json"], clip_json(prediction))
    write_csv(folder / FILES["csv"], [prediction])
    if faces:
        strip = {index for index in strip_frames(prediction) if index is not None}
        pictures = {index: read_image(face_file(faces, index)) for index in strip}
        write_plot(folder / FILES["png"], prediction, pictures)
