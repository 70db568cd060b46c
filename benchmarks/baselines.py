"""What the operator is measured against, on which sizes, and the bytes that no implementation can do without."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

import fan_ext

Function = Callable[..., Tensor]


def eager(features: Tensor, q0: Tensor, q1: Tensor, b0: Tensor, b1: Tensor, present: Tensor | None = None) -> Tensor:
    """Equations 2 to 5 as the paper writes them, on (B, N, D); ``present`` (B, N) is 1 for a frame that is there."""
    alpha = torch.sigmoid(features @ q0 + b0)
    if present is not None:
        alpha = alpha * present
    g = (alpha.unsqueeze(-1) * features).sum(1) / alpha.sum(1, keepdim=True)
    pairs = torch.cat([features, g.unsqueeze(1).expand_as(features)], dim=-1)
    weight = alpha * torch.sigmoid(pairs @ q1 + b1)
    return (weight.unsqueeze(-1) * pairs).sum(1) / weight.sum(1, keepdim=True)


def eager_without_concatenation(features: Tensor, q0: Tensor, q1: Tensor, b0: Tensor, b1: Tensor) -> Tensor:
    """The same numbers without [f : g] of every frame: what a careful user of PyTorch would write."""
    q1a, q1b = q1.chunk(2)
    alpha = torch.sigmoid(features @ q0 + b0)
    g = torch.einsum("bn,bnd->bd", alpha, features) / alpha.sum(1, keepdim=True)
    weight = alpha * torch.sigmoid(features @ q1a + (g @ q1b).unsqueeze(1) + b1)
    v = torch.einsum("bn,bnd->bd", weight, features) / weight.sum(1, keepdim=True)
    return torch.cat([v, g], dim=-1)


@functools.cache
def compiled(function: Function) -> Function:
    return torch.compile(function, dynamic=False)


def implementations(with_compiled: bool = True) -> dict[str, Function]:
    """By name, ours first. Compilation happens at the first call."""
    baselines: dict[str, Function] = {"eager": eager, "eager, no concatenation": eager_without_concatenation}
    if with_compiled:
        baselines["compiled eager"] = compiled(eager)
        baselines["compiled, no concatenation"] = compiled(eager_without_concatenation)
    return {"fused": fan_ext.frame_attention, **baselines}


class Size(NamedTuple):
    """Clips B, frames N of each, features D of a frame."""

    clips: int
    frames: int
    dim: int

    def __str__(self) -> str:
        return f"{self.clips} x {self.frames} x {self.dim}"


# From many short clips to a long one, each of 10 to 130 MB in float32.
SIZES = (
    *(Size(4096, 3, 512), Size(4096, 16, 512), Size(1024, 32, 512), Size(256, 100, 512), Size(64, 300, 512)),
    *(Size(16, 1000, 512), Size(4, 3000, 512), Size(1, 10000, 512)),
)
PASSES = ("forward", "backward", "both")


def make_arguments(size: Size, dtype: torch.dtype, device: str = "cpu", requires_grad: bool = False) -> list[Tensor]:
    """Features of one standard deviation, parameters that keep the logits near it. The same for the same size."""
    generator = torch.Generator().manual_seed(0)
    clips, frames, dim = size
    shapes = ((clips, frames, dim), (dim,), (2 * dim,), (1,), (1,))
    values = [
        torch.randn(shape, generator=generator) / (shape[-1] ** 0.5 if k else 1) for k, shape in enumerate(shapes)
    ]
    return [value.to(device, dtype).requires_grad_(requires_grad) for value in values]


def compulsory_bytes(size: Size, itemsize: int, which: str) -> int:
    """Forward: features read once, out written. Backward: features read, their gradient written. Both: all of it."""
    features = size.clips * size.frames * size.dim * itemsize
    out = size.clips * 2 * size.dim * itemsize
    return {"forward": features + out, "backward": 2 * features, "both": 3 * features + out}[which]
