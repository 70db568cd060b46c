"""The cases of the CPU operator's parity test, tests/fan_ext/test_parity.py, through the CUDA kernels on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from native.cuda_kernels import Inputs, Kernels
from operator_cases import DIMS, DTYPES, FRAMES, LAYOUTS, assert_close, make_case, truth
from torch import Tensor

from fan_ext import FrameWeights


class _OnRunner(torch.autograd.Function):
    """What fan_ext/functional.py does around the operators of a device, with the kernels as that device."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, layout: dict[str, Any], features: Tensor, *parameters: Tensor | None
    ) -> Any:
        if features.stride(-1) != 1:
            features = features.contiguous()
        _, out, saved, *weights = kernels.forward(Inputs(features, parameters, **layout), return_weights=True)
        ctx.kernels, ctx.layout = kernels, layout
        ctx.save_for_backward(features, *parameters, out, saved)
        ctx.mark_non_differentiable(weights[2])
        return out, *weights

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, grad_alpha: Tensor, grad_beta: Tensor | None, _: Tensor) -> Any:
        features, *parameters, out, saved = ctx.saved_tensors
        inputs = Inputs(features, parameters, **ctx.layout)
        _, *gradients = ctx.kernels.backward(inputs, (grad_out, grad_alpha, grad_beta), out, saved)
        return None, None, *gradients


def _frame_attention(kernels: Kernels) -> Any:
    def function(features: Tensor, *parameters: Tensor | None, return_weights: bool, **layout: Any) -> Any:
        assert return_weights
        out, *weights = _OnRunner.apply(kernels, layout, features, *parameters)
        return out, FrameWeights(*weights)

    return function


def _cases() -> Iterator[tuple[int, int, str, torch.dtype]]:
    """Every length with every D in every layout. The dtypes take turns: each meets every length, D and layout.

    A thread is slow here: the largest come in one layout only, 1000 frames of 2048 not at all.
    """
    for (f, frames), (d, dim), (k, layout) in itertools.product(*map(enumerate, (FRAMES, DIMS, LAYOUTS))):
        if frames * dim <= 60_000 or (frames * dim <= 600_000 and k == 0):
            yield frames, dim, layout, DTYPES[(f + d + k) % len(DTYPES)]


@pytest.mark.parametrize(("frames", "dim", "layout", "dtype"), list(_cases()), ids=str)
def test_matches_float64_reference(runner: Path, frames: int, dim: int, layout: str, dtype: torch.dtype) -> None:
    case = make_case(layout, frames, dim, dtype)
    assert_close(case.run(_frame_attention(Kernels(runner))), truth(case), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_without_direct_terms(runner: Path, layout: str) -> None:
    case = make_case(layout, 33, 31, torch.float32)
    actual = case.run(_frame_attention(Kernels(runner)), direct=False)
    assert_close(actual, truth(case, direct=False), torch.float32)


@pytest.mark.parametrize("frames", [3, 33])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_parameters(runner: Path, dtype: torch.dtype, frames: int) -> None:
    case = make_case("dense", frames, 512, dtype)
    case.parameters = [None if p is None else p.to(dtype) for p in case.parameters]
    actual = case.run(_frame_attention(Kernels(runner)))
    assert actual["grad self_weight"].dtype == dtype
    assert_close(actual, truth(case), dtype)
