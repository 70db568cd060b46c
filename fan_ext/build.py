"""What was built."""

from __future__ import annotations

import sys
from typing import Any

from fan_ext.library import NotBuilt, load_native, load_operators


def build_info() -> dict[str, Any]:
    """What this installation was built with.

    Returns:
        ``version`` of fan_ext; ``compiler`` of the native code; ``torch``, the version whose headers it was built with;
        ``cpu``, the instruction sets its CPU kernels are compiled for, and ``cpu_in_use``, the one this machine runs;
        ``cuda``, None, or the CUDA toolkit's version and the architectures compiled in; ``fallback``, None, or why
        plain PyTorch serves in place of the compiled operators (known once torch is loaded).
    """
    info: dict[str, Any] = dict.fromkeys(("version", "compiler", "torch", "cpu", "cpu_in_use", "cuda"))
    try:
        info |= load_native().build_info()
        if "torch" in sys.modules:
            load_operators()
    except NotBuilt as error:
        return info | {"fallback": str(error)}
    return info | {"fallback": None}
