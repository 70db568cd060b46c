"""The backbone as it is fastest for inference: batch norm folded into the convolutions, channels last, bf16 where the
processor has units for it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fan_fer.attention.network import FrameAttentionNetwork
from fan_fer.base.terminal import progress_bar
from fan_fer.base.timing import Profile
from fan_fer.features.preprocessing import Preprocessing

BATCH = 32
PRECISIONS = ("auto", "float32", "bfloat16")
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))  # in a ResNet, its blocks and shortcuts


class Embedder:
    """Turns aligned faces into features.

    precision: "float32"; "bfloat16", which moves probabilities by about 0.01; "auto" for bfloat16 on processors with
        bf16 matrix units, where it is several times as fast, else float32.
    Raises ValueError for another precision.
    """

    def __init__(
        self,
        network: FrameAttentionNetwork,
        preprocessing: Preprocessing,
        device: torch.device,
        precision: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: got {precision!r}; wanted one of {', '.join(PRECISIONS)}")
        if precision == "auto":
            fast = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
            precision = "bfloat16" if fast else "float32"
        self._dtype = getattr(torch, precision)
        self._feature_size = network.feature_size
        self._preprocessing = preprocessing
        self._device = device
        backbone = folded(network.backbone)
        self._backbone = backbone.to(device, self._dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, crops: Iterable[NDArray[np.uint8]], count: int, profile: Profile | None = None) -> Tensor:
        """Features (N, D), float32 on the CPU, of RGB crops (H, W, 3) of any sizes. N may be less than ``count``."""
        profile = profile or Profile()
        remaining = iter(crops)
        # In one piece: small blocks that stay, between others that come and go, would spread memory out ever further.
        features = torch.empty(count, self._feature_size)
        done = 0
        while batch := list(islice(remaining, BATCH)):
            with profile.measure("embed"):
                # One by one, because the crops may differ in size.
                frames = torch.cat([self._preprocessing(crop[None]) for crop in batch])
                frames = frames.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)
                features[done : done + len(batch)] = self._backbone(frames)
                done += len(batch)
        return features[:done]


def folded(backbone: nn.Module) -> nn.Module:
    """A copy for inference in which every batch norm of a ResNet is part of the convolution before it."""
    copied = copy.deepcopy(backbone).eval()
    for module in list(copied.modules()):
        for convolution, norm in _PAIRS:
            first, second = getattr(module, convolution, None), getattr(module, norm, None)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
    return copied


FACES = 128  # embedded at a time


@torch.no_grad()  # not inference mode: the backbone, whose layout changes here, may be trained on
def embed_faces(
    network: FrameAttentionNetwork,
    preprocessing: Preprocessing,
    faces: Iterable[NDArray[np.uint8]],
    count: int,
    what: str,
    device: torch.device | str = "cpu",
    mirror: bool = False,
) -> Tensor:
    """Features (count, D) in float32 on the CPU; ``faces`` are RGB uint8 (H, W, 3)."""
    backbone = network.backbone.to(device).to(memory_format=torch.channels_last).eval()
    result = torch.empty(count, network.feature_size)
    pending: list[NDArray[np.uint8]] = []
    done = 0

    def flush() -> None:
        nonlocal done
        images = preprocessing(np.stack(pending)).to(device, memory_format=torch.channels_last)
        result[done : done + len(pending)] = backbone(images.flip(-1) if mirror else images).float().cpu()
        done += len(pending)
        pending.clear()

    with progress_bar() as progress:
        for face in progress.track(faces, total=count, description=what):
            pending.append(face)
            if len(pending) == FACES:
                flush()
        if pending:
            flush()
    return result
