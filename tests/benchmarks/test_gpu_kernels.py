"""What is made of the names that torch's profiler gives, without a profiler."""

from __future__ import annotations

from types import SimpleNamespace

import gpu_kernels
import pytest
import torch

import fan_ext

_MARK = "at::cuda::(anonymous namespace)::spin_kernel(long)"
_FORWARD = "void fan::cuda::forward_kernel<float, (fan::cuda::Scope)1>(fan::cuda::Clips<float>, fan::cuda::Layout)"
_REDUCE = "_ZN3fan4cuda13reduce_kernelIfEEvNS0_15BackwardOutputsIT_EE"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (_FORWARD, "forward_kernel"),
        (_REDUCE, "reduce_kernel"),
        ("_ZN3fan4cuda14forward_kernelINS0_4HalfELNS0_5ScopeE3EEEvNS0_5ClipsIT_EE", "forward_kernel"),
        ("fan::cuda::forward_kernel(fan::cuda::Clips<float>)", "forward_kernel"),
        # Not ours, though it has our word in it.
        ("void other::forward_kernel<float>(float*)", "other::forward_kernel"),
        ("void at::native::(anonymous namespace)::cat<float, 4>(float*)", "at::native::cat"),
        ("triton_red_fused_sum_0", "triton_red_fused_sum_0"),
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD (Device -> Device)"),
        ("Memset (Device)", "Memset (Device)"),
    ],
)
def test_plain_name(name: str, plain: str) -> None:
    assert gpu_kernels.plain_name(name) == plain


def test_calls_are_told_apart() -> None:
    copy = "Memcpy DtoD (Device -> Device)"
    names = [_MARK, _MARK, _MARK, _FORWARD, _MARK, copy, _REDUCE, _MARK, "Context Sync"]
    assert gpu_kernels.split_calls(names, 2) == [["forward_kernel"], [copy, "reduce_kernel"]]
    assert gpu_kernels.split_calls(names, 3)[0] == []  # a call that launches nothing


def test_kernels_that_the_profiler_has_lost_are_missed() -> None:
    """The first mark gone, it may be that more is."""
    names = [_MARK, _FORWARD, _MARK, _REDUCE, _MARK]
    assert gpu_kernels.split_calls([_MARK, *names], 2) == [["forward_kernel"], ["reduce_kernel"]]
    with pytest.raises(RuntimeError, match="saw 3 marks, expected 4 or more"):
        gpu_kernels.split_calls(names, 2)


class _Profile:
    """In place of torch.profiler: sees what is launched, loses the first of it, and has more to tell than kernels."""

    def __init__(self, lost: int) -> None:
        self.lost, self.seen = lost, []

    def __call__(self, activities: list[object]) -> _Profile:
        assert activities == [torch.profiler.ProfilerActivity.CUDA]
        return self

    def __enter__(self) -> _Profile:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, name: str, device: str = "CUDA", annotation: bool = False) -> None:
        start = SimpleNamespace(start=float(len(self.seen)))
        device_type = getattr(torch.autograd.DeviceType, device)
        self.seen.append(
            SimpleNamespace(name=name, device_type=device_type, is_user_annotation=annotation, time_range=start)
        )

    def events(self) -> list[SimpleNamespace]:
        kept = self.seen[self.lost :]
        return kept[::-1]  # in no order that one could rely on


@pytest.mark.parametrize("lost", [0, 1, 499])
def test_every_call_has_its_kernels(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    profile = _Profile(lost)
    monkeypatch.setattr(torch.profiler, "profile", profile)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda _: profile.add(_MARK))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: profile.add("Context Sync"))

    def one() -> None:
        profile.add("cudaLaunchKernel", device="CPU")
        profile.add("Torch-Compiled Region", annotation=True)
        profile.add(_FORWARD)

    def two() -> None:
        profile.add(_FORWARD)
        profile.add(_REDUCE)

    assert gpu_kernels.kernels_seen([one, two]) == [["forward_kernel"], ["forward_kernel", "reduce_kernel"]]


@pytest.mark.parametrize("frames", [3, 100, 300, 10_000, None])
def test_both_passes_are_one_after_the_other(frames: int | None) -> None:
    shape, total = (4, frames, 512, "float32", (9, 0)), {"total_frames": 500 if frames is None else None}
    passes = ("forward", "backward", "both")
    regimes, kernels = zip(*(gpu_kernels.planned(p, *shape, **total) for p in passes), strict=True)
    assert kernels[2] == kernels[0] + kernels[1]
    assert regimes[2].split(", ") == list(dict.fromkeys(regimes[:2]))
    assert kernels[0] == [k["name"] for k in fan_ext.cuda_launch_plan(*shape, **total)["kernels"]]
