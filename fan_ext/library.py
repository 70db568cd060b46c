"""Finds and loads the compiled parts of the package, and says what is wrong where it cannot."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType

_REBUILD = "rebuild it for this Python and torch: pip install --force-reinstall --no-deps --no-build-isolation ."


class NotBuilt(ImportError):
    """A compiled part is missing or does not load."""


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error  # torch wraps the loader's own words
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _find_operators() -> Path | None:
    for folder in sys.modules["fan_ext"].__path__:
        for path in sorted(Path(folder).glob("_torch_ops.*")):
            return path
    return None


def _check_for_a_shadow() -> None:
    """The folder of the sources, from which Python may be started, hides the package that was built from them."""
    here = Path(__file__).parent
    for entry in sys.path:
        folder = Path(entry or ".").resolve() / "fan_ext"
        if folder != here.resolve() and any(folder.glob("_torch_ops.*")):
            raise ImportError(
                f"fan_ext: {here} holds sources and hides the package installed in {folder}; start Python in another "
                "folder, or with the option -P"
            )


@functools.cache
def load_native() -> ModuleType:
    """The pybind11 module: build information, launch plans and the NumPy entry. Does not load torch."""
    try:
        return importlib.import_module("fan_ext._native")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            _check_for_a_shadow()
        raise NotBuilt(
            f"fan_ext: its native module is missing or does not load ({_first_line(error)}); {_REBUILD}"
        ) from None


@functools.cache
def load_operators() -> Path:
    """Register torch.ops.fan_ext; the library that has them."""
    import torch

    library = _find_operators()
    if library is None:
        _check_for_a_shadow()
        raise NotBuilt(f"fan_ext: its torch operators (_torch_ops) are missing; {_REBUILD}")
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise NotBuilt(
            f"fan_ext: its torch operators do not load with torch {torch.__version__} ({_first_line(error)}); "
            f"{_REBUILD}"
        ) from None
    return library
