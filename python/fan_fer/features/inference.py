"""A backbone as it is fastest for inference.

Batch norm is folded into the convolutions, and bf16 is used where the processor is faster with it.
"""

from __future__ import annotations

import copy
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fan_fer.base.errors import FanFerError
from fan_fer.features.backbones import BACKBONES
from fan_fer.features.face29 import PooledBlock
from fan_fer.features.resnet import BasicBlock

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
SMALL = 4  # side of what a convolution gives, up to which it is taken as a product of matrices
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("0", "1"))  # in a backbone, its blocks and shortcuts


def find_precision(name: str, device: torch.device) -> str:
    """What "auto" becomes on ``device``, and other names as they are.

    Raises FanFerError for an unknown name, and for a precision that the device does not have.
    """
    if name not in PRECISIONS:
        raise FanFerError(f'precision "{name}": unknown; one of {", ".join(PRECISIONS)} is wanted')
    if name == "auto":
        faster = _is_faster_in_bfloat16() if device.type == "cpu" else _has_bfloat16(device)
        return "bfloat16" if faster else "float32"
    if name == "float16" and device.type == "cpu":
        raise FanFerError(f'precision "{name}": is for GPUs; float32 or bfloat16 is wanted on the CPU')
    if name == "bfloat16" and device.type == "cuda" and not _has_bfloat16(device):
        raise FanFerError(f'precision "{name}": this GPU does not have it; float32 or float16 is wanted')
    return name


def folded(backbone: nn.Module) -> nn.Module:
    """A copy for inference in which every batch norm is part of the convolution before it.

    Of other backbones than those in BACKBONES, whose batch norms may do more, only the copy.
    """
    copied = copy.deepcopy(backbone).eval()
    for module in list(copied.modules()) if isinstance(copied, tuple(BACKBONES.values())) else ():
        for convolution, norm in _PAIRS:
            first, second = getattr(module, convolution, None), getattr(module, norm, None)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
    return copied.requires_grad_(False)


def fastest(backbone: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """A copy for inference on ``device``; what it gives is rounded otherwise than by ``backbone``."""
    copied = folded(backbone)
    if device.type == "cpu" and (precision == "float32" or _has_matrix_units()):
        for block in copied.modules():
            if isinstance(block, BasicBlock | PooledBlock):
                for name in ("conv1", "conv2"):
                    setattr(block, name, _Convolution(getattr(block, name)))
    return copied.to(device, getattr(torch, precision)).to(memory_format=torch.channels_last)


class _Convolution(nn.Module):
    """A convolution of 3 x 3 pixels; as a product of matrices where it gives few pixels: faster there."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.step, self.edge = convolution.stride[0], int(convolution.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        if (max(x.shape[-2:]) + 2 * self.edge - 3) // self.step >= SMALL:
            result: Tensor = self.convolution(x)
            return result
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *4 * [self.edge]))
        windows = padded.unfold(1, 3, self.step).unfold(2, 3, self.step).permute(0, 1, 2, 4, 5, 3)
        kernel = self.convolution.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(windows.flatten(3), kernel, self.convolution.bias).permute(0, 3, 1, 2)


def _is_faster_in_bfloat16() -> bool:
    """Whether the processor takes bf16 faster than float32.

    With matrix units it does, several times, and with AVX-512 BF16 alone where it is not Intel's: those take float32
    no slower.
    """
    return _has_matrix_units() or (torch.cpu._is_avx512_bf16_supported() and "GenuineIntel" not in _processor())


def _has_bfloat16(device: torch.device) -> bool:
    """Whether it is a GPU of CUDA's with bf16 matrix units: from Ampere on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def _has_matrix_units() -> bool:
    return torch.cpu._is_amx_tile_supported()


def _processor() -> str:
    """What the system says about the processor, with its maker's name."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # not Linux
        return platform.processor()
