"""Which kernels a call runs on the GPU, as torch's profiler sees them, and which fan_ext.cuda_launch_plan announces."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

import fan_ext

# Of torch.cuda._sleep, which stands before each call and after the last.
_MARK = "spin_kernel"
# CUPTI loses the first kernels of a session, more of them the more sessions there have been in the process
# (pytorch/pytorch#192021). These may go.
_TO_LOSE = 500


def plain_name(name: str) -> str:
    """forward_kernel, of "void fan::cuda::forward_kernel<float>(...)" or a mangled name; others without arguments."""
    if mangled := re.match(r"_ZN3fan4cuda(\d+)", name):
        return name[mangled.end() : mangled.end() + int(mangled.group(1))]
    if ours := re.match(r"(?:void )?fan::cuda::(\w+)", name):
        return ours.group(1)
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    return name if name.startswith(("Memcpy", "Memset")) else re.split(r"[<(]", name)[0]


def split_calls(names: Sequence[str], count: int) -> list[list[str]]:
    """The plain names between the last marks, for so many calls. An error where those before them are gone."""
    calls: list[list[str]] = []
    for name in names:
        if _MARK in name:
            calls.append([])
        elif calls:
            calls[-1].append(plain_name(name))
    if len(calls) < count + 2:
        raise RuntimeError(f"the profiler saw {len(calls)} marks, expected {count + 2} or more: it has lost kernels")
    return calls[-count - 1 : -1]


def kernels_seen(calls: Sequence[Callable[[], object]]) -> list[list[str]]:
    """For each call, everything that it has the GPU do on the current stream, in order, copies and fills too."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_TO_LOSE):
            torch.cuda._sleep(1)
        for call in calls:
            torch.cuda._sleep(1)
            call()
        torch.cuda._sleep(1)
        torch.cuda.synchronize()
    on_device = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    on_device.sort(key=lambda e: e.time_range.start)
    return split_calls([e.name for e in on_device if not e.is_user_annotation], len(calls))


def planned(passes: str, *shape: Any, **more: Any) -> tuple[str, list[str]]:
    """The regime of "forward", "backward" or "both" for such clips, as cuda_launch_plan takes them, and its kernels."""
    plans = [
        fan_ext.cuda_launch_plan(*shape, backward=backward, **more)
        for backward in (False, True)
        if passes in ("both", "backward" if backward else "forward")
    ]
    regimes = dict.fromkeys(plan["regime"] for plan in plans)
    return ", ".join(regimes), [kernel["name"] for plan in plans for kernel in plan["kernels"]]
