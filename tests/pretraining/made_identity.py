"""A file in the format of dlib's face recognition network, of random numbers, and what that network gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fan_fer.features.face29 import BLOCKS


def layers() -> list[tuple[int, int, int]]:
    """Channels out, channels in and side of the filters of every convolution, in order."""
    blocks = [(outputs, channels, 3) for inputs, outputs, _ in BLOCKS for channels in (inputs, outputs)]
    return [(32, 3, 7), *blocks]


def random_tensors() -> list[np.ndarray]:
    """Of each layer filters with biases and scale with shift, then the matrix of the embedding; always the same."""
    rng = np.random.default_rng(0)
    tensors = []
    for outputs, inputs, side in layers():
        filters = rng.normal(0, 0.3 / side / inputs**0.5, outputs * inputs * side * side)
        tensors.append(np.concatenate([filters, rng.normal(0, 0.1, outputs)]))
        tensors.append(np.concatenate([rng.normal(3, 0.5, outputs), rng.normal(0, 0.1, outputs)]))
    return [tensor.astype("<f4") for tensor in [*tensors, rng.normal(0, 0.1, (256, 128))]]


def write_identity(path: Path) -> Path:
    """The tensors as dlib writes them, between other things."""

    def integer(value: int) -> bytes:
        digits = value.to_bytes(8, "little").rstrip(b"\0")
        return bytes([len(digits)]) + digits

    with path.open("wb") as file:
        for tensor in random_tensors():
            sides = (*tensor.shape, 1, 1, 1)[:4]
            file.write(b"\x01\x05con_4" + b"".join(map(integer, (2, *sides))) + tensor.tobytes())
    return path


def identity(pixels: Tensor, taps: list[Tensor] | None = None) -> Tensor:
    """What dlib's network of these tensors gives of faces (B, 3, H, W), red, green and blue, 0 to 255: (B, 128).

    Its scale layers are constant; halving convolutions are unpadded, and get a row and a column more at the right and
    at the bottom where their number is even.
    """
    tensors = iter(torch.from_numpy(tensor.copy()) for tensor in random_tensors())
    sizes = iter(layers())

    def layer(x: Tensor, stride: int, padding: int) -> Tensor:
        outputs, inputs, side = next(sizes)
        filters, scales = next(tensors), next(tensors)
        x = F.conv2d(x, filters[:-outputs].view(outputs, inputs, side, side), filters[-outputs:], stride, padding)
        return x * scales[:outputs].view(-1, 1, 1) + scales[outputs:].view(-1, 1, 1)

    means = torch.tensor([122.782, 117.001, 104.298]).view(3, 1, 1)  # of red, green and blue
    x = F.max_pool2d(layer((pixels - means) / 256, 2, 0).relu(), 3, 2)
    for inputs, outputs, stride in BLOCKS:
        shortcut, y = x, x
        if stride == 2:
            height, width = (side // 2 for side in x.shape[2:])
            shortcut = torch.cat([F.avg_pool2d(x, 2), x.new_zeros(len(x), outputs - inputs, height, width)], 1)
            y = x.new_zeros(*x.shape[:2], 2 * height + 1, 2 * width + 1)
            y[..., : x.shape[2], : x.shape[3]] = x
        y = layer(layer(y, stride, int(stride == 1)).relu(), 1, 1)
        x = (y + shortcut).relu()
    return x.mean((2, 3)) @ next(tensors)
