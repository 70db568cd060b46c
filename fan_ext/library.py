"""Finds and loads the compiled parts of the package."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

_REBUILD = "rebuild it for this Python and torch: pip install --force-reinstall --no-deps --no-build-isolation ."


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error  # torch wraps the loader's own words
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


@functools.cache
def load_native() -> ModuleType:
    """The pybind11 module: build information, launch plans and the NumPy entry. Does not load torch."""
    try:
        return importlib.import_module("fan_ext._native")
    except ImportError as error:
        raise ImportError(
            f"fan_ext: its native module is missing or does not load ({_first_line(error)}); {_REBUILD}"
        ) from None


@functools.cache
def load_operators() -> None:
    """Register torch.ops.fan_ext."""
    import torch

    spec = importlib.util.find_spec("fan_ext")
    folders = spec.submodule_search_locations if spec is not None else None
    candidates = [path for folder in folders or [] for path in sorted(Path(folder).glob("_torch_ops.*"))]
    if not candidates:
        raise ImportError(f"fan_ext: its torch operators (_torch_ops) are missing; {_REBUILD}")
    try:
        torch.ops.load_library(str(candidates[0]))
    except OSError as error:
        raise ImportError(
            f"fan_ext: its torch operators do not load with torch {torch.__version__} ({_first_line(error)}); "
            f"{_REBUILD}"
        ) from None
