"""Face detectors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fan_fer.base.errors import DetectorError
from fan_fer.faces.face import Detector
from fan_fer.faces.yunet import YuNet

if TYPE_CHECKING:
    import torch


def load_detector(spec: str, device: str | torch.device = "cpu") -> Detector:
    """The detector named `spec`: "mtcnn", or "yunet:FILE" with YuNet's ONNX file.

    device: where MTCNN runs; YuNet runs on the CPU.

    Raises DetectorError for another name, and for a file that is missing or does not hold the network; FanFerError
    for a device that is not there.
    """
    if spec == "mtcnn":
        from fan_fer.faces.mtcnn import MTCNN

        return MTCNN(device=device)
    name, _, file = spec.partition(":")
    if name == "yunet" and file:
        return YuNet(file)
    raise DetectorError(f"detector {spec!r} is unknown; wanted: mtcnn, or yunet:FILE (YuNet's .onnx file)")
