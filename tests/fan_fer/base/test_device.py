"""Where networks run: the GPU that there is, else the CPU; and what is said of one that cannot be used."""

from __future__ import annotations

import warnings

import pytest
import torch

from fan_fer.base import device as devices
from fan_fer.base.device import find_device
from fan_fer.base.errors import FanFerError, FanFerWarning


def has(monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(devices, "_can_be_used", lambda device: True)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(0, False, "cpu"), (1, False, "cuda"), (0, True, "mps"), (2, True, "cuda")]
)
def test_auto_is_a_gpu_where_there_is_one(cuda: int, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cuda, mps)
    assert find_device("auto") == torch.device(expected)


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, cuda=2, mps=True)
    for name in ("cpu", "cuda", "cuda:1", "mps"):
        assert find_device(name) == find_device(torch.device(name)) == torch.device(name)
    has(monkeypatch, cuda=1)
    for name in ("cuda:1", "mps"):
        with pytest.raises(FanFerError, match=rf'^device "{name}": torch .* finds no such GPU here; use "cpu"$'):
            find_device(name)
    for name in ("gpu", "", "meta", "Auto", "cuda:x"):
        message = rf'^device "{name}": unknown; "auto", "cpu", "cuda" or "mps" is wanted$'
        with pytest.raises(FanFerError, match=message):
            find_device(name)


def test_a_gpu_that_cannot_be_used_is_named_and_the_cpu_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones

    def full(*shape: int, device: torch.device) -> torch.Tensor:
        if device.type == "cuda":
            raise RuntimeError("CUDA error: out of memory\nand more lines")
        return ones(*shape, device=device)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", full)
    message = r'^device "cuda": cannot be used \(CUDA error: out of memory\); the CPU is$'
    with pytest.warns(FanFerWarning, match=message):
        assert find_device("auto") == torch.device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_device("cuda") == torch.device("cuda")  # asked for, it is not tried
