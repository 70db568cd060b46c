"""What was built."""

from __future__ import annotations

from typing import Any

from fan_ext.library import load_native


def build_info() -> dict[str, Any]:
    """What this installation was built with.

    Returns:
        ``version`` of fan_ext; ``compiler`` of the native code; ``torch``, the version whose headers it was built with;
        ``cpu``, the instruction sets its CPU kernels are compiled for, and ``cpu_in_use``, the one this machine runs;
        ``cuda``, None, or the CUDA toolkit's version and the architectures compiled in.
    """
    return dict(load_native().build_info())
