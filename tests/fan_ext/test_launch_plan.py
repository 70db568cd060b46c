"""Launch plans: what is asked and what is refused. That they are right is tested where the kernels run."""

from __future__ import annotations

import pytest
import torch

import fan_ext


@pytest.mark.parametrize(
    ("frames", "dtype", "capability", "regime"),
    [
        (3, "float32", (8, 0), "warp per clip"),
        (16, torch.bfloat16, (9, 0), "warp per clip"),
        (60, torch.float32, (9, 0), "resident"),
        (300, torch.float32, (9, 0), "cluster"),
        (300, torch.float32, (8, 0), "streamed"),
        (None, torch.float32, (9, 0), "streamed"),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_regime(frames, dtype, capability, regime, backward) -> None:
    plan = fan_ext.cuda_launch_plan(64, frames, 512, dtype, capability, backward)
    assert plan["regime"] == regime
    assert plan["launches"] == (2 if backward else 1)
    assert plan["block"] % 32 == 0
    assert (plan["cluster"] > 1) == (regime == "cluster")
    limit = {(8, 0): 163, (9, 0): 227}[capability] * 1024
    assert 0 < plan["shared_bytes"] <= limit
    if not backward:
        assert plan["grid"] * plan["clips_per_block"] >= 64 * plan["cluster"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2, 3, torch.int32), "dtype is int32, expected one of float32, float64, float16, bfloat16"),
        ((1, -2, 3), "batch, frames, dim are 1, -2, 3"),
        ((1, 2, 0), "dim at least 1"),
        ((1, 2, 3, "float32", (6, 1)), r"compute_capability is \(6, 1\), expected \(7, 0\) or more"),
    ],
)
def test_names_the_argument(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        fan_ext.cuda_launch_plan(*arguments)
