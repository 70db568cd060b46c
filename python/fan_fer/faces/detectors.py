"""Face detectors by name."""

from __future__ import annotations

from fan_fer.base.errors import DetectorError
from fan_fer.faces.face import Detector
from fan_fer.faces.yunet import YuNet


def load_detector(spec: str) -> Detector:
    """The detector named `spec`: "mtcnn", or "yunet:FILE" with YuNet's ONNX file.

    Raises DetectorError for another name, and for a file that is missing or does not hold the network.
    """
    if spec == "mtcnn":
        from fan_fer.faces.mtcnn import MTCNN

        return MTCNN()
    name, _, file = spec.partition(":")
    if name == "yunet" and file:
        return YuNet(file)
    raise DetectorError(f"detector {spec!r} is unknown; wanted: mtcnn, or yunet:FILE (YuNet's .onnx file)")
