"""The operator beside eager PyTorch and torch.compile.

    pytest benchmarks --benchmark-group-by=group --benchmark-columns=min,median,rounds

Baselines: `eager` is the formula as the paper writes it, `reference` its stable form without the concatenation,
`compiled` torch.compile of the eager form.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fan_ext

SHAPES = [(48, 3, 512), (64, 16, 512), (8, 300, 512), (1, 1000, 512)]


def eager(features: Tensor, q0: Tensor, q1: Tensor, b0: Tensor, b1: Tensor) -> Tensor:
    alpha = torch.sigmoid(features @ q0 + b0)
    g = (alpha.unsqueeze(-1) * features).sum(1) / alpha.sum(1, keepdim=True)
    pairs = torch.cat([features, g.unsqueeze(1).expand_as(features)], dim=-1)
    weight = alpha * torch.sigmoid(pairs @ q1 + b1)
    return (weight.unsqueeze(-1) * pairs).sum(1) / weight.sum(1, keepdim=True)


def forward(function: Callable[..., Tensor], arguments: list[Tensor]) -> None:
    with torch.no_grad():
        function(*arguments)


def forward_and_backward(function: Callable[..., Tensor], arguments: list[Tensor]) -> None:
    out = function(*arguments)
    torch.autograd.grad(out, arguments, torch.ones_like(out))


@pytest.mark.parametrize("implementation", ["fused", "eager", "reference", "compiled"])
@pytest.mark.parametrize("passes", [forward, forward_and_backward], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d).split(".")[1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_frame_attention(benchmark, shape, dtype, passes, implementation) -> None:
    torch.manual_seed(0)
    clips, frames, dim = shape
    sizes = [(clips, frames, dim), (dim,), (2 * dim,), (1,), (1,)]
    arguments = [torch.randn(size).div_(size[-1] ** 0.5 if i else 1).to(dtype) for i, size in enumerate(sizes)]
    if passes is forward_and_backward:
        arguments = [a.requires_grad_() for a in arguments]
    functions = {
        "fused": fan_ext.frame_attention,
        "eager": eager,
        "reference": fan_ext.reference.frame_attention,
        "compiled": torch.compile(eager),
    }
    benchmark.group = f"{passes.__name__} {shape} {dtype}"
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(passes, args=(functions[implementation], arguments), warmup_rounds=5, rounds=40, iterations=1)
