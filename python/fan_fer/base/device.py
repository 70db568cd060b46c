"""Where a network runs."""

from __future__ import annotations

import warnings

import torch

from fan_fer.base.errors import FanFerError, FanFerWarning, first_line

KINDS = ("cuda", "mps", "cpu")  # the fastest first


def find_device(name: str | torch.device) -> torch.device:
    """The device "cpu", "cuda", "cuda:N" (the GPU numbered N), "mps" (Apple's GPU), or "auto": the first GPU that there
    is and that can be used, else the CPU.

    Raises FanFerError where there is no such device.
    """
    if name == "auto":
        return next(device for device in map(torch.device, KINDS) if _is_there(device) and _can_be_used(device))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in KINDS:
        raise FanFerError(f'device "{name}": unknown; "auto", "cpu", "cuda" or "mps" is wanted')
    if not _is_there(device):
        raise FanFerError(f'device "{name}": torch {torch.__version__} finds no such GPU here; use "cpu"')
    return device


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or torch.backends.mps.is_available()


def _can_be_used(device: torch.device) -> bool:
    """Whether it computes something: a GPU may be full, another program's alone, or too old or new for this torch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of many lines
            torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:
        why = first_line(error)
        warnings.warn(f'device "{device}": cannot be used ({why}); the CPU is', FanFerWarning, stacklevel=3)
        return False
    return True
