"""What happens to a clip: every network reads it, its faces are kept as pictures, and the files for download are made.

Everything lies in the clip's own folder under names of our own:

    clip                   the video as it came
    faces/000012.jpg       the aligned face of frame 12
    0/prediction.json ...  files of the first network, then 1/ and so on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from fan_fer.app.comparison import compare
from fan_fer.base.errors import VideoError, first_line, one_line
from fan_fer.base.files import atomic_write, exists, write_text
from fan_fer.base.opencv import cv2
from fan_fer.faces.align import TEMPLATE
from fan_fer.faces.clip_faces import known_faces
from fan_fer.output.figure import strip_frames
from fan_fer.output.json_csv import clip_json, write_csv
from fan_fer.output.plot import write_plot
from fan_fer.output.prediction import Prediction
from fan_fer.prediction import ClipPrediction
from fan_fer.recognizer import Recognizer, faces_of
from fan_fer.video.decoding import Video
from fan_fer.video.encoding import Mp4Writer
from fan_fer.video.frame import Progress
from fan_fer.video.images import read_image
from fan_fer.video.sources import open_clip

VIDEO, FACES, PLAYABLE = "clip", "faces", "playable.mp4"
FILES = {"json": "prediction.json", "csv": "frames.csv", "png": "weights.png"}
FACE_SIZE = 256  # pixels of a kept face
PLAYABLE_SIDE = 960  # longest side of the copy that every browser plays


def read_clip(folder: Path, name: str, recognizers: Sequence[Recognizer], report: Progress) -> dict[str, Any]:
    """Reads the video in ``folder`` with every network and writes the files; what the page shows of it.

    name: what the user calls the video. ``report`` may raise, which ends the work.
    Raises VideoError where no face is found.
    """
    path = folder / VIDEO
    try:
        first = recognizers[0].predict(path, report)
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), name)) from None
    _save_faces(path, first, folder / FACES, report)
    predictions = [first]
    for recognizer in recognizers[1:]:
        report("compare", 0, None)
        predictions.append(_read_again(path, first, recognizer, report))
    predictions = [
        replace(prediction, video=name, warnings=tuple(line.replace(str(path), name) for line in prediction.warnings))
        for prediction in predictions
    ]
    for number, prediction in enumerate(predictions):
        report("files", number, len(predictions))
        _write_files(folder / str(number), prediction, folder / FACES)
    picture = Video(path).read([0])[0]
    return {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "networks": [
            {
                "name": network,
                "prediction": prediction.to_dict(),
                "variants": [asdict(variant) for variant in compare(prediction)],
            }
            for network, prediction in zip(network_names(recognizers), predictions, strict=True)
        ],
    }


def network_names(recognizers: Sequence[Recognizer]) -> list[str]:
    """The names of the weights files, with their folders where the names alone are the same."""
    paths = [Path(recognizer.weights_file) for recognizer in recognizers]
    stems = [path.stem for path in paths]
    return [
        one_line(stem if stems.count(stem) == 1 else f"{path.parent.name}/{stem}")
        for path, stem in zip(paths, stems, strict=True)
    ]


def write_playable(folder: Path) -> Path:
    """An MP4 copy of the clip, for browsers that cannot play or seek in the original. Raises FanFerError."""
    target = folder / PLAYABLE
    if exists(target):
        return target
    video = Video(folder / VIDEO)
    first = _shrunk(video.read([0])[0])
    try:
        with (
            atomic_write(target) as temporary,
            Mp4Writer(temporary, (first.shape[1], first.shape[0]), video.fps, folder / VIDEO) as writer,
        ):
            for frame in video:
                writer.write(_shrunk(frame.image), frame.time)
    except av.FFmpegError as error:
        raise VideoError(f"no playable copy could be written ({first_line(error)})") from None
    return target


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most PLAYABLE_SIDE pixels long."""
    scale = min(1.0, PLAYABLE_SIDE / max(image.shape[:2]))
    size = (round(scale * image.shape[1]), round(scale * image.shape[0]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


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


def _write_files(folder: Path, prediction: ClipPrediction, faces: Path) -> None:
    """The files that ``fan-fer predict`` writes with --json, --csv and --plot."""
    folder.mkdir()
    write_text(folder / FILES["json"], clip_json(prediction))
    write_csv(folder / FILES["csv"], [prediction])
    strip = {index for index in strip_frames(prediction) if index is not None}
    write_plot(folder / FILES["png"], prediction, {index: read_image(face_file(faces, index)) for index in strip})
