"""Frame attention for video features: one fused operator, on the CPU and on CUDA, with autograd and torch.compile.

Names that need torch are loaded on first use, so that :mod:`fan_ext.numpy` works without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fan_ext import numpy, reference
    from fan_ext.build import build_info
    from fan_ext.cuda import cuda_launch_plan
    from fan_ext.frame_weights import FrameWeights
    from fan_ext.functional import frame_attention
    from fan_ext.module import FrameAttention

__all__ = ["FrameAttention", "FrameWeights", "build_info", "cuda_launch_plan", "frame_attention", "numpy", "reference"]

_HOME = {
    "FrameAttention": "fan_ext.module",
    "FrameWeights": "fan_ext.frame_weights",
    "build_info": "fan_ext.build",
    "cuda_launch_plan": "fan_ext.cuda",
    "frame_attention": "fan_ext.functional",
}
_MODULES = ("numpy", "reference")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"fan_ext.{name}")
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("fan_ext")
    else:
        raise AttributeError(f"module 'fan_ext' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
