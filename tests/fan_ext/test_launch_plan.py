"""Launch plans: what is asked and what is refused. That they are right is tested where the kernels run."""

from __future__ import annotations

import pytest
import torch

import fan_ext


@pytest.mark.parametrize(
    ("frames", "dtype", "capability", "regimes"),
    [
        (3, "float32", (8, 0), ("registers", "registers")),
        (4, "float32", (8, 0), ("registers", "registers")),
        (32, "float32", (8, 0), ("registers", "registers")),
        (33, "float32", (8, 0), ("resident", "resident")),
        (8, torch.bfloat16, (9, 0), ("registers", "registers")),
        (9, torch.bfloat16, (9, 0), ("resident", "resident")),
        (60, torch.float32, (9, 0), ("resident", "resident")),
        (200, torch.float32, (9, 0), ("cluster", "cluster")),
        (300, torch.float32, (9, 0), ("cluster", "split")),
        (300, torch.float16, (9, 0), ("cluster", "cluster")),
        (500, torch.float32, (9, 0), ("split", "split")),
        (300, torch.float32, (8, 0), ("split", "split")),
        (1000, torch.float32, (9, 0), ("split", "split")),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_regime(frames, dtype, capability, regimes, backward) -> None:
    regime = regimes[backward]
    plan = fan_ext.cuda_launch_plan(64, frames, 512, dtype, capability, backward)
    assert plan["regime"] == regime
    assert plan["launches"] == len(plan["kernels"]) == (3 if regime == "split" else 2 if backward else 1)
    assert {key: plan["kernels"][0][key] for key in ("grid", "block", "shared_bytes")}.items() <= plan.items()
    assert all(kernel["shared_bytes"] <= plan["shared_bytes"] for kernel in plan["kernels"] if kernel["grid"] > 1)
    assert plan["block"] % 32 == 0
    assert (plan["cluster"] > 1) == (regime == "cluster")
    limit = {(8, 0): 163, (9, 0): 227}[capability] * 1024
    assert 0 < plan["shared_bytes"] <= limit
    if not backward:
        assert plan["grid"] * plan["clips_per_block"] >= 64 * plan["cluster"]


@pytest.mark.parametrize("backward", [False, True])
def test_parts_of_a_clip_depend_on_its_length_alone(backward) -> None:
    def parts(frames: int, batch: int = 1) -> tuple[int, int]:
        plan = fan_ext.cuda_launch_plan(batch, frames, 512, compute_capability=(8, 0), backward=backward)
        assert plan["regime"] == "split"
        assert plan["grid"] == batch * -(-frames // plan["part_frames"])
        return plan["part_frames"], plan["rows_in_shared"]

    # Forward those that two blocks hold in shared memory at once.
    short = 64 if backward else 32
    assert {parts(1000, batch) for batch in (1, 7, 5000)} == {(short, short)}
    # Beyond 1024 parts they grow, up to what a block counts together.
    assert [parts(frames)[0] for frames in (32_768, 65_537, 100_000, 10**7)] == [short, 68, 100, 256]


@pytest.mark.parametrize(
    ("clips", "total", "regime"),
    [
        (1, 20_000, "split"),
        (1, 200, "cluster"),
        (16, 200, "cluster"),  # T bounds what few clips may be
        (17, 200, "split"),
        (16, 60, "resident"),
        (5000, 4, "registers"),
        (5000, 16, "registers"),
        (5000, 20_000, "split"),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_packed_clips_of_unknown_length(clips, total, regime, backward) -> None:
    plan = fan_ext.cuda_launch_plan(clips, None, 512, backward=backward, total_frames=total)
    assert plan["regime"] == regime
    if regime == "split":
        assert plan["grid"] == total // plan["part_frames"] + clips


def test_short_clips_of_unknown_length_take_little_each() -> None:
    """More of them run at a time; one of twice the average length is still read once, where so many rows fit."""
    plans = {n: fan_ext.cuda_launch_plan(4096, None, 512, total_frames=4096 * n) for n in (3, 10, 30, 100)}
    assert {n: plan["rows_in_shared"] for n, plan in plans.items()} == {3: 8, 10: 20, 30: 48, 100: 104}
    blocks = [plan["block"] for plan in plans.values()]
    assert blocks == sorted(blocks)
    for plan in plans.values():
        assert plan["part_frames"] == plan["rows_in_shared"]
        # A block looks at several of them for one that was cut, and combines the parts of that.
        assert plan["kernels"][2]["grid"] == 1024


def test_longest_packed_clip_stands_for_all() -> None:
    """As dense clips of its length: with max_frames a clip's bits do not depend on the others'."""
    for frames in (3, 60, 300, 5000):
        dense = fan_ext.cuda_launch_plan(64, frames, 512)
        packed = fan_ext.cuda_launch_plan(64, frames, 512, total_frames=10 * frames)
        for key in ("regime", "block", "cluster", "rows_in_shared"):
            assert packed[key] == dense[key]


def test_without_relation_attention_a_launch_less() -> None:
    kernels = fan_ext.cuda_launch_plan(2, 1000, 512, compute_capability=(8, 0), relation=False)["kernels"]
    assert [kernel["name"] for kernel in kernels] == ["forward_kernel", "combine_kernel"]


@pytest.mark.parametrize(("dim", "copied"), [(512, 16), (510, 4), (511, 2), (516, 8)])
def test_rows_of_any_alignment_are_read_once(dim, copied) -> None:
    plan = fan_ext.cuda_launch_plan(8, 60, dim, "float16")
    assert (plan["regime"], plan["rows_in_shared"], plan["copy_bytes"]) == ("resident", 60, copied)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2, 3, torch.int32), "dtype is int32, expected one of float32, float64, float16, bfloat16"),
        ((1, -2, 3), "batch, frames, dim, total_frames are 1, -2, 3, None"),
        ((1, None, 3), "frames and total_frames are None"),
        ((1, 2, 0), "dim at least 1"),
        ((1, 2, 3, "float32", (6, 1)), r"compute_capability is \(6, 1\), expected \(7, 0\) or more"),
    ],
)
def test_names_the_argument(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        fan_ext.cuda_launch_plan(*arguments)
