"""The face detector SCRFD (Guo et al., ICLR 2022), from an ONNX file with landmarks as InsightFace exports them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fan_fer.base.errors import DetectorError, first_line
from fan_fer.base.extras import need
from fan_fer.base.opencv import cv2
from fan_fer.faces.boxes import suppress
from fan_fer.faces.face import Face
from fan_fer.faces.network_files import read_network

SIZE = 640  # side of what a network sees that takes any size
WIDTHS = (1, 4, 10)  # of its three kinds of outputs: score, box, landmarks
ANCHORS = {3: 2, 5: 1}  # boxes at a place, by how many grids there are: of 8, 16, 32, and perhaps 64 and 128 pixels
OVERLAP = 0.4  # of two boxes' union, beyond which they are of one face


class SCRFD:
    """SCRFD through onnxruntime, on the CPU.

    Images are shrunk to what the network sees, 640 x 640 pixels where its file does not say, and filled up with black
    at the right and below. Threads may share one.

    Raises DetectorError for a file that is missing or does not hold such a network, LibraryError without onnxruntime.
    """

    name = "scrfd"

    def __init__(self, file: str | os.PathLike[str], score_threshold: float = 0.5) -> None:
        need("scrfd", "detector scrfd")
        content = read_network(file, self.name, "an SCRFD network")
        try:
            self._load(content, score_threshold)
        except Exception as error:  # onnxruntime has many of its own
            raise DetectorError(
                f"detector scrfd: {Path(file)}: not an SCRFD network with landmarks (.onnx): {first_line(error)}"
            ) from None

    def __getstate__(self) -> tuple[bytes, float]:
        return self._content, self._threshold

    def __setstate__(self, state: tuple[bytes, float]) -> None:
        self._load(*state)

    def _load(self, content: bytes, threshold: float) -> None:
        import onnxruntime

        self._content, self._threshold = content, threshold
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cv2.getNumThreads()
        options.log_severity_level = 3  # errors alone
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (self._input,) = self._session.get_inputs()
        self._size = [side if isinstance(side, int) else SIZE for side in self._input.shape[2:]]  # height, width
        self._run(np.zeros((*self._size, 3), np.uint8))

    def detect(self, image: np.ndarray) -> list[Face]:
        height, width = image.shape[:2]
        scale = min(1.0, self._size[0] / height, self._size[1] / width)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        canvas = np.zeros((*self._size, 3), np.uint8)
        canvas[: image.shape[0], : image.shape[1]] = image
        scores, boxes, points = self._run(canvas)
        corners = boxes / scale
        faces = []
        for i in suppress(corners, scores, OVERLAP):
            x1, y1, x2, y2 = corners[i].tolist()
            landmarks = (points[i] / scale).reshape(5, 2).astype(np.float32)
            faces.append(Face((x1, y1, x2 - x1, y2 - y1), landmarks, float(scores[i])))
        return faces

    def _run(self, canvas: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores (n,), corners (n, 4) and landmarks (n, 10) of what may be a face, in pixels of the canvas.

        Raises ValueError where the network's outputs are not those of SCRFD.
        """
        pixels = (canvas.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 128
        outputs = [np.asarray(output) for output in self._session.run(None, {self._input.name: pixels})]
        # Whatever their names and order, they are told by what they hold a row and how many rows there are.
        kinds = [
            sorted((output.reshape(-1, width) for output in outputs if output.shape[-1] == width), key=len)[::-1]
            for width in WIDTHS
        ]
        count = len(kinds[0])
        if count not in ANCHORS or [len(kind) for kind in kinds] != [count] * 3 or len(outputs) != 3 * count:
            raise ValueError(f"outputs of shape {[output.shape for output in outputs]}")
        found = []
        for level, (scores, sides, points) in enumerate(zip(*kinds, strict=True)):
            step = 8 << level
            rows, columns = (side // step for side in self._size)
            if len(scores) != rows * columns * ANCHORS[count]:
                raise ValueError(f"an output of shape {scores.shape} for {rows} x {columns} places")
            (likely,) = np.nonzero(scores[:, 0] >= self._threshold)
            place = likely // ANCHORS[count]
            centre = np.stack([place % columns, place // columns], 1) * step
            to_corners = sides[likely] * step * (-1, -1, 1, 1)
            found.append(
                (scores[likely, 0], np.tile(centre, 2) + to_corners, np.tile(centre, 5) + points[likely] * step)
            )
        all_scores, corners, landmarks = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return all_scores, corners, landmarks


def make_scrfd(argument: str, device: str) -> SCRFD:
    """For ``load_detector``; it runs on the CPU."""
    return SCRFD(argument)
