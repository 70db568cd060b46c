"""The operator beside eager PyTorch and torch.compile, on the CPU. For a GPU there is gpu_report.py.

    pytest benchmarks --benchmark-group-by=group --benchmark-columns=min,median,rounds

Baselines are those of baselines.py, and `reference`, the stable form that is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from baselines import Size, implementations, make_arguments
from torch import Tensor

import fan_ext

SIZES = (Size(48, 3, 512), Size(64, 16, 512), Size(8, 300, 512), Size(1, 1000, 512))


def forward(function: Callable[..., Tensor], arguments: list[Tensor]) -> None:
    with torch.no_grad():
        function(*arguments)


def forward_and_backward(function: Callable[..., Tensor], arguments: list[Tensor]) -> None:
    out = function(*arguments)
    torch.autograd.grad(out, arguments, torch.ones_like(out))


@pytest.mark.parametrize("implementation", [*implementations(), "reference"])
@pytest.mark.parametrize("passes", [forward, forward_and_backward], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d).split(".")[1])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_frame_attention(benchmark, size, dtype, passes, implementation) -> None:
    arguments = make_arguments(size, dtype, requires_grad=passes is forward_and_backward)
    function = {**implementations(), "reference": fan_ext.reference.frame_attention}[implementation]
    benchmark.group = f"{passes.__name__} {size} {dtype}"
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(passes, args=(function, arguments), warmup_rounds=5, rounds=40, iterations=1)
