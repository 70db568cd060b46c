"""The fused operator against the reference in float64: forward, weights, and every gradient."""

from __future__ import annotations

import pytest
import torch
from operator_cases import DIMS, DTYPES, FRAMES, LAYOUTS, assert_close, make_case, truth

import fan_ext


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("frames", FRAMES)
def test_matches_float64_reference(frames: int, dim: int, layout: str, dtype: torch.dtype) -> None:
    case = make_case(layout, frames, dim, dtype)
    assert_close(case.run(fan_ext.frame_attention), truth(case), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_without_direct_terms(layout: str) -> None:
    case = make_case(layout, 33, 31, torch.float32)
    actual = case.run(fan_ext.frame_attention, direct=False)
    assert_close(actual, truth(case, direct=False), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_parameters(dtype: torch.dtype) -> None:
    case = make_case("dense", 16, 512, dtype)
    case.parameters = [None if p is None else p.to(dtype) for p in case.parameters]
    actual = case.run(fan_ext.frame_attention)
    assert actual["grad self_weight"].dtype == dtype
    assert_close(actual, truth(case), dtype)


def test_reference_is_the_formula_of_the_paper() -> None:
    """Equations 2 to 5 as they are written, with the concatenation, in float64."""
    case = make_case("dense", 16, 31, torch.float64)
    q0, q1, b0, b1 = case.parameters
    f = case.features
    alpha = torch.sigmoid(f @ q0 + b0)
    g = (alpha[..., None] * f).sum(1) / alpha.sum(1, keepdim=True)
    pairs = torch.cat([f, g[:, None].expand_as(f)], dim=-1)
    beta = torch.sigmoid(pairs @ q1 + b1)
    final = alpha * beta / (alpha * beta).sum(1, keepdim=True)
    out = (final[..., None] * pairs).sum(1)
    got, weights = fan_ext.reference.frame_attention(f, *case.parameters, return_weights=True)
    for actual, expected in zip((got, *weights), (out, alpha, beta, final), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_half_precision_number_survives(dtype: torch.dtype) -> None:
    """The sum over one frame is that frame: all 65,536 bit patterns go in and come out, subnormal and infinite too."""
    numbers = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype)
    out = fan_ext.frame_attention(numbers.view(-1, 1, 1), torch.zeros(1)).flatten()
    assert torch.equal(out.isnan(), ~numbers.isfinite())  # an infinite frame makes an infinite logit: 0 * inf
    finite = numbers.isfinite()
    assert torch.equal(out[finite], numbers[finite])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounds_to_nearest_even(dtype: torch.dtype) -> None:
    """Two frames with equal weights: the mean, rounded as torch rounds it."""
    generator = torch.Generator().manual_seed(1)
    scale = torch.exp2(torch.randint(-26, 15, (4096, 1, 8), generator=generator).float())
    pair = (torch.randn(4096, 2, 8, generator=generator) * scale).to(dtype)
    expected = (pair.float().sum(1) * 0.5).to(dtype)
    assert torch.equal(fan_ext.frame_attention(pair, torch.zeros(8)), expected)
