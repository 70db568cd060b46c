"""The weights of dlib's face recognition network, as a start for the network of emotions.

``dlib_face_recognition_resnet_model_v1.dat`` lies in the source package face-recognition-models 0.3.0 on PyPI. Its
author, Davis King, puts it under CC0; it learned to tell three million faces apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fan_fer.base.errors import FanFerError
from fan_fer.features.face29 import Face29, PooledBlock

# Pixels from 0 to 255, as the network was trained on them: less these means of red, green and blue, over the scale.
MEANS, SCALE = (122.782, 117.001, 104.298), 256.0


def load_identity(path: Path, faces: Tensor, pixel_mean: float, pixel_std: float) -> Face29:
    """A Face29 that gives what dlib's network gives; its ``fc`` is dlib's embedding of 128 numbers.

    faces: (B, 3, H, W), preprocessed; the batch norms take their statistics, in evaluation mode without effect, from
        them, and training goes on from there.
    pixel_mean, pixel_std: of the preprocessing, for pixels from 0 to 1.
    Raises FanFerError.
    """
    network = Face29(num_classes=128).eval()
    tensors = _read_tensors(path, network)
    layers = [(network.conv1, network.bn1)]
    for block in network.blocks:
        assert isinstance(block, PooledBlock)
        layers += [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    with torch.no_grad():
        for convolution, norm in layers:
            filters, scales = next(tensors), next(tensors)
            count = convolution.out_channels
            weight = torch.from_numpy(filters[:-count].copy()).view_as(convolution.weight)
            bias = torch.from_numpy(filters[-count:].copy())
            factor, shift = torch.from_numpy(scales.copy()).view(2, -1)
            if convolution is network.conv1:
                bias += weight.sum((2, 3)) @ ((255 * pixel_mean - torch.tensor(MEANS)) / SCALE)
                weight *= 255 * pixel_std / SCALE
            _set_layer(convolution, norm, weight, bias, factor, shift)
        head = network.fc
        assert isinstance(head, nn.Linear)
        head.weight.copy_(torch.from_numpy(next(tensors).reshape(256, 128).T.copy()))
        head.bias.zero_()
        _calibrate(network, layers, faces)
    return network


def _set_layer(
    convolution: nn.Conv2d, norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor, factor: Tensor, shift: Tensor
) -> None:
    """factor (conv(x) + bias) + shift, with filters as long as newly drawn ones.

    What stands before a batch norm has no scale of its own, and dlib's filters are so small that a usual learning rate
    would wipe them out.
    """
    length = weight.flatten(1).norm(dim=1).clamp_min(1e-12)
    grow = math.sqrt(2) / length
    convolution.weight.copy_(weight * grow.view(-1, 1, 1, 1))
    running_mean, running_var = _statistics(norm)
    running_mean.copy_(-bias * grow)
    running_var.fill_(1 - norm.eps)
    norm.weight.copy_(factor / grow)
    norm.bias.copy_(shift)


def _calibrate(network: nn.Module, layers: list[tuple[nn.Conv2d, nn.BatchNorm2d]], faces: Tensor) -> None:
    """Gives every batch norm the statistics of ``faces``, and parameters with which its output stays as it is."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        seen[norm] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

    hooks = [norm.register_forward_hook(look) for _, norm in layers]
    network(faces)
    for hook in hooks:
        hook.remove()
    for _, norm in layers:
        mean, variance = seen[norm]
        running_mean, running_var = _statistics(norm)
        norm.bias.add_(norm.weight * (mean - running_mean))
        norm.weight.mul_((variance + norm.eps).sqrt())
        running_mean.copy_(mean)
        running_var.copy_(variance)


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _read_tensors(path: Path, network: Face29) -> Iterator[NDArray[np.float32]]:
    """For every convolution its filters and biases, then its factors and shifts; last the embedding's matrix."""
    wanted = "dlib_face_recognition_resnet_model_v1.dat of PyPI's face-recognition-models is wanted"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FanFerError(f"{path}: cannot be read ({error.strerror}); {wanted}") from None
    position = 0

    def take(*shape: int) -> NDArray[np.float32]:
        # A tensor is a 2, for the version of its format, its four sides, and its numbers, from the lowest byte.
        nonlocal position
        sides = (*shape, 1, 1, 1)[:4]
        header = b"".join(map(_integer, (2, *sides)))
        start = content.find(header, position) + len(header)
        position = start + 4 * math.prod(shape)
        if start < len(header) or position > len(content):
            raise FanFerError(f"{path}: without a tensor of {' x '.join(map(str, shape))} numbers; {wanted}")
        return np.frombuffer(content, "<f4", math.prod(shape), start)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            yield take(module.weight.numel() + module.out_channels)
            yield take(2 * module.out_channels)
    yield take(256, 128)


def _integer(value: int) -> bytes:
    """As dlib writes it: how many bytes follow, then these, the lowest first."""
    length = (value.bit_length() + 7) // 8
    return bytes([length]) + value.to_bytes(length, "little")
