"""What the operator is measured against computes the same."""

from __future__ import annotations

import pytest
import torch
from baselines import PASSES, SIZES, Size, compulsory_bytes, implementations, make_arguments

import fan_ext


@pytest.mark.parametrize("name", implementations())
def test_equals_the_reference(name: str) -> None:
    leaves = make_arguments(Size(3, 7, 24), torch.float64, requires_grad=True)
    upstream = torch.randn(3, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for function in (implementations()[name], fan_ext.reference.frame_attention):
        out = function(*leaves)
        results.append((out.detach(), *torch.autograd.grad(out, leaves, upstream)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_compulsory_bytes() -> None:
    size = Size(2, 5, 8)
    features, out = 2 * 5 * 8 * 4, 2 * 16 * 4
    assert [compulsory_bytes(size, 4, which) for which in PASSES] == [
        features + out,
        2 * features,
        3 * features + out,
    ]
    assert len(set(SIZES)) == len(SIZES)
