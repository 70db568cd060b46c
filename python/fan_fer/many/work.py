"""What a worker does: load the recognizer once, then make a result of every video that it is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch

from fan_fer.attention.weights import ModelCard, find_weights, load_weights, weights_digest
from fan_fer.base.errors import FanFerError, WeightsError, fault_line, one_line
from fan_fer.base.files import is_file
from fan_fer.base.opencv import cv2
from fan_fer.faces.detectors import load_detector
from fan_fer.faces.face import Detector
from fan_fer.recognizer import Recognizer, load_recognizer

HEAVIEST = 3  # frames of a video that the results name


class Result(TypedDict):
    """What came of a video, as it goes through JSON. With an error the rest is empty.

    probabilities: in the network's class order.
    heaviest: seconds of the frames that weigh most, heaviest first.
    """

    probabilities: list[float]
    frames: int | None
    faces: int | None
    heaviest: list[float]
    warnings: list[str]
    error: str


@dataclass(frozen=True)
class Work:
    """All that a worker needs to know; it pickles where the detector does.

    folder: what the names of the videos are relative to; an absolute path.
    fingerprint: of the weights, so that a worker on another machine notices that its file is another one.
    detector, device, precision, batch_size: as for ``load_recognizer``.
    threads: of torch and of OpenCV in each worker; None leaves them as they are.
    """

    folder: str
    weights: str
    fingerprint: str
    detector: str | Detector
    device: str
    precision: str = "auto"
    batch_size: int | None = None
    threads: int | None = None

    def check(self) -> tuple[ModelCard, str]:
        """The network's card and the detector's name. Raises WeightsError and DetectorError."""
        _, card = load_weights(self.weights)
        detector = load_detector(self.detector) if isinstance(self.detector, str) else self.detector
        return card, detector.name

    def load(self) -> Recognizer:
        """Raises WeightsError, DetectorError, and FanFerError where there is no such device or precision."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
            cv2.setNumThreads(self.threads)
        if weights_fingerprint(self.weights) != self.fingerprint:
            raise WeightsError(f"{self.weights}: is not the same file for all workers; the same weights are wanted")
        recognizer = load_recognizer(self.weights, self.device, self.detector, self.precision, self.batch_size)
        _ = recognizer.detector  # one that cannot be loaded is found out before the first video
        return recognizer

    def predict(
        self, recognizer: Recognizer, video: str, progress: Callable[[str, int, int | None], None] | None = None
    ) -> Result:
        """The result for a video, which is an error where nothing could be predicted, whatever the reason."""
        path = os.path.join(self.folder, video)  # noqa: PTH118, keeps the name as it is
        try:
            prediction = recognizer.predict(path, progress)
        except FanFerError as error:
            return failure(str(error).removeprefix(f"{one_line(path)}: "))
        except Exception as error:  # a fault that one video of thousands brings to light ends no job
            return failure(fault_line(error))
        return Result(
            probabilities=list(prediction.probabilities.values()),
            frames=prediction.frames_total,
            faces=prediction.frames_with_face,
            heaviest=[round(frame.time or 0.0, 3) for frame in prediction.heaviest(HEAVIEST)],
            warnings=[warning.removeprefix(f"{one_line(path)}: ") for warning in prediction.warnings],
            error="",
        )


def make_work(
    listing: Path,
    weights: str | os.PathLike[str] | None,
    detector: str | Detector,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
) -> Work:
    """Raises WeightsError where the weights cannot be read."""
    # Absolute, since workers need not be started in the same folder.
    path = str(find_weights(weights).absolute())
    folder = str(listing.parent.absolute())
    if isinstance(detector, str):
        name, _, file = detector.partition(":")
        detector = f"{name}:{Path(file).absolute()}" if file and is_file(file) else detector
    return Work(folder, path, weights_fingerprint(path), detector, device, precision, batch_size, threads)


def weights_fingerprint(path: str) -> str:
    """Sixteen hexadecimal digits. Raises WeightsError."""
    return weights_digest(path)[:16]


def failure(error: str) -> Result:
    return Result(probabilities=[], frames=None, faces=None, heaviest=[], warnings=[], error=error)
