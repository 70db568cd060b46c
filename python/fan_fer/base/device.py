"""Where a network runs."""

from __future__ import annotations

import torch

from fan_fer.base.errors import FanFerError


def find_device(name: str) -> torch.device:
    """The device "cpu" or "cuda". Raises FanFerError where there is no such device."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise FanFerError(f'device "{name}": unknown; "cpu" or "cuda" is wanted')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FanFerError(f'device "{name}": torch {torch.__version__} finds no such GPU here; use "cpu"')
    return device
