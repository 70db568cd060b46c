"""Face detectors: the faces in an image, each with its box and five landmarks."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from fan_fer.base.errors import DetectorError
from fan_fer.base.opencv import cv2, quiet_opencv
from fan_fer.faces.face import Face
from fan_fer.faces.network_files import read_network


class YuNet:
    """YuNet (Wu et al. 2023) through OpenCV, from its ONNX file.

    Images are shrunk to at most 640 pixels on the longer side, which is what the network was trained for. Threads
    may share one; they wait for each other.
    """

    name = "yunet"

    def __init__(self, file: str | os.PathLike[str], score_threshold: float = 0.6) -> None:
        content = read_network(file, self.name, "the YuNet network")
        try:
            self._load(content, score_threshold)
        except (cv2.error, SystemError):
            raise DetectorError(f"detector yunet: {Path(file)}: not the YuNet network (.onnx)") from None

    def __getstate__(self) -> tuple[bytes, float]:
        return self._content, self._threshold

    def __setstate__(self, state: tuple[bytes, float]) -> None:
        self._load(*state)

    def _load(self, content: bytes, threshold: float) -> None:
        self._content, self._threshold = content, threshold
        data, empty = np.frombuffer(content, np.uint8), np.empty(0, np.uint8)
        with quiet_opencv():
            self._network = cv2.FaceDetectorYN.create("onnx", data, empty, (320, 320), threshold)
            self._network.detect(np.zeros((320, 320, 3), np.uint8))
        self._lock = threading.Lock()  # one picture at a time: the network keeps its size

    def detect(self, image: np.ndarray) -> list[Face]:
        scale = min(1.0, 640 / max(image.shape[:2]))
        if scale < 1:
            size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        with self._lock:
            self._network.setInputSize((image.shape[1], image.shape[0]))
            _, rows = self._network.detect(image)
        faces = []
        for row in rows if rows is not None else ():
            # OpenCV 4 gives nonsense for pictures of a few rows.
            if not np.isfinite(row).all() or not 0 < min(row[2:4]) <= max(row[2:4]) <= 2 * max(image.shape[:2]):
                continue
            x, y, width, height = (float(value) for value in row[:4] / scale)
            # The network calls the person's right eye the first: that is the one at image left.
            faces.append(Face((x, y, width, height), (row[4:14] / scale).reshape(5, 2), float(row[14])))
        return faces


def make_yunet(argument: str, device: str) -> YuNet:
    """For ``load_detector``; it runs on the CPU."""
    return YuNet(argument)
