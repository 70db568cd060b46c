"""The GPU does it: the kernels that torch's profiler sees are those of fan_ext.cuda_launch_plan, and no others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from gpu_kernels import kernels_seen, planned
from operator_cases import DTYPES, Case, make_case

import fan_ext

LAYOUTS = ("dense", "masked", "packed", "packed, longest unknown", "self-only")
SHAPES = ((2, 256), (20, 512), (40, 64), (20, 31), (90, 512), (200, 512), (300, 512), (1000, 1024), (3000, 512))


@dataclass
class Launch:
    """A call, and the arguments of cuda_launch_plan that it answers to."""

    name: str
    case: Case
    longest: int | None
    dtype: torch.dtype

    def to(self, device: str) -> Launch:
        return replace(self, case=self.case.to(device))

    def passes(self, function: Callable[..., Any] = fan_ext.frame_attention) -> dict[str, Callable[[], object]]:
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.case.leaves.items()}
        parameters = [leaves.get(n) for n in ("self_weight", "relation_weight", "self_bias", "relation_bias")]

        def forward() -> torch.Tensor:
            return function(leaves["features"], *parameters, **self.case.layout)

        out = forward()
        upstream = torch.ones_like(out)
        return {
            "forward": forward,
            "backward": lambda: torch.autograd.grad(out, list(leaves.values()), upstream, retain_graph=True),
        }

    def planned(self, passes: str, capability: tuple[int, int]) -> tuple[str, list[str]]:
        features, offsets = self.case.features, self.case.layout.get("offsets")
        clips, total = (len(features), None) if offsets is None else (len(offsets) - 1, len(features))
        relation = self.case.parameters[1] is not None
        shape = (clips, self.longest, features.shape[-1], self.dtype, capability)
        return planned(passes, *shape, relation=relation, total_frames=total)


@functools.cache
def make_launches() -> list[Launch]:
    launches = []
    for frames, dim in SHAPES:
        for dtype in DTYPES:
            for layout in LAYOUTS:
                case = make_case(layout.partition(",")[0], frames, dim, dtype)
                longest = None if layout.endswith("unknown") else frames
                if longest is None:
                    del case.layout["max_frames"]
                launches.append(Launch(f"{layout} {frames} x {dim} {dtype}", case, longest, dtype))
            if dtype.itemsize == 2:  # the parameters are of float32 otherwise
                case = make_case("packed", frames, dim, dtype)
                case.parameters = [None if p is None else p.to(dtype) for p in case.parameters]
                case.layout["offsets"] = case.layout["offsets"].int()
                launches.append(
                    Launch(f"16-bit parameters, int32 offsets {frames} x {dim} {dtype}", case, frames, dtype)
                )
    return launches


def differences(launches: list[Launch], seen: list[list[str]], capability: tuple[int, int]) -> list[str]:
    wanted = [(launch, passes) for launch in launches for passes in ("forward", "backward")]
    found = []
    for (launch, passes), kernels in zip(wanted, seen, strict=True):
        regime, expected = launch.planned(passes, capability)
        if kernels != expected:
            found.append(f"{launch.name}, {passes} ({regime}): {kernels}, expected {expected}")
    return found


def test_the_gpu_runs_the_planned_kernels_and_no_others(cuda: str) -> None:
    launches = [launch.to(cuda) for launch in make_launches()]
    calls = [call for launch in launches for call in launch.passes().values()]
    for call in calls:  # fills the allocator
        call()
    found = differences(launches, kernels_seen(calls), torch.cuda.get_device_capability())
    assert not found, "\n".join(found)


def test_the_plain_reference_is_told_apart(cuda: str) -> None:
    """What a call that falls back to it would run."""
    launches = make_launches()[:1]
    calls = list(launches[0].to(cuda).passes(fan_ext.reference.frame_attention).values())
    seen = kernels_seen(calls)
    assert all(seen)
    assert len(differences(launches, seen, torch.cuda.get_device_capability())) == len(calls)


def test_launches_have_every_regime() -> None:
    """As cuda_launch_plan names them for clips of whatever length, on the CPU: nothing here needs a GPU."""
    dense = [(2, frames, None) for frames in (*range(1, 120), 300, 1000, 3000, 10_000, 40_000)]
    unknown = [(4, None, total) for total in (4, 40, 400, 4000, 40_000)]
    for capability in ((8, 0), (9, 0)):
        for dtype in DTYPES:
            for passes in ("forward", "backward"):
                every = {
                    planned(passes, clips, longest, dim, dtype, capability, total_frames=total)[0]
                    for clips, longest, total in (*dense, *unknown)
                    for dim in (31, 64, 512, 1024)
                }
                mine = [launch for launch in make_launches() if launch.dtype == dtype]
                assert {launch.planned(passes, capability)[0] for launch in mine} == every


def test_a_difference_is_named() -> None:
    launches = make_launches()[:2]
    seen = [launch.planned(passes, (9, 0))[1] for launch in launches for passes in ("forward", "backward")]
    assert differences(launches, seen, (9, 0)) == []
    copy = "Memcpy DtoD (Device -> Device)"
    for wrong in ([], [*seen[1], copy], ["at::native::reduce_kernel"], seen[1][:-1]):
        found = differences(launches, [seen[0], wrong, *seen[2:]], (9, 0))
        assert len(found) == 1
        assert found[0].startswith(f"{launches[0].name}, backward")
        assert str(wrong) in found[0]


def test_both_passes_run(device: str) -> None:
    for launch in make_launches()[:12]:
        forward, backward = launch.to(device).passes().values()
        assert len(backward()) == len(launch.case.leaves)
        assert torch.equal(forward(), forward())
