"""Face detectors: the faces in an image, each with its box and five landmarks."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from fan_fer.base.errors import DetectorError
from fan_fer.faces.face import Face
from fan_fer.video.opencv import quiet_opencv


class YuNet:
    """YuNet (Wu et al. 2023) through OpenCV, from its ONNX file.

    Images are shrunk to at most 640 pixels on the longer side, which is what the network was trained for.
    """

    name = "yunet"

    def __init__(self, file: str | os.PathLike[str], score_threshold: float = 0.6) -> None:
        path = Path(file)
        if not path.is_file():
            raise DetectorError(f"detector yunet: {path}: no such file; wanted: the YuNet network (.onnx)")
        try:
            with quiet_opencv():
                self._network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold)
                self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except (cv2.error, SystemError):
            raise DetectorError(f"detector yunet: {path}: not the YuNet network (.onnx)") from None

    def detect(self, image: np.ndarray) -> list[Face]:
        scale = min(1.0, 640 / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._network.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        faces = []
        for row in rows if rows is not None else ():
            x, y, width, height = (float(value) for value in row[:4] / scale)
            # The network calls the person's right eye the first: that is the one at image left.
            faces.append(Face((x, y, width, height), (row[4:14] / scale).reshape(5, 2), float(row[14])))
        return faces
