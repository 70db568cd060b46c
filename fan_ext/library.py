"""Finds and loads the compiled parts of the package, and says what is wrong where it cannot."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

_REBUILD = "rebuild it for this Python and torch: pip install --force-reinstall --no-deps --no-build-isolation ."


class NotBuilt(ImportError):
    """A compiled part is missing or does not load."""


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error  # torch wraps the loader's own words
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _find(name: str) -> Path | None:
    paths = (Path(folder) / f"{name}.so" for folder in sys.modules["fan_ext"].__path__)
    return next((path for path in paths if path.is_file()), None)


def _check_for_a_shadow() -> None:
    """The folder of the sources, from which Python may be started, hides the package that was built from them."""
    here = Path(__file__).parent
    for entry in sys.path:
        folder = Path(entry or ".").resolve() / "fan_ext"
        if folder != here.resolve() and (folder / "_torch_ops.so").is_file():
            raise ImportError(
                f"fan_ext: {here} holds sources and hides the package installed in {folder}; start Python in another "
                "folder, or with the option -P"
            )


@functools.cache
def load_native() -> ctypes.CDLL:
    """csrc/bindings/native.cpp: build information, launch plans and the NumPy entry. Does not load torch."""
    path = _find("_native")
    if path is None:
        _check_for_a_shadow()
        raise NotBuilt(f"fan_ext: its native module is missing; {_REBUILD}")
    try:
        native = ctypes.CDLL(str(path))
    except OSError as error:
        raise NotBuilt(f"fan_ext: its native module does not load ({_first_line(error)}); {_REBUILD}") from None
    number, real, pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    native.fan_ext_build_info.restype = ctypes.c_char_p
    native.fan_ext_cuda_launch_plan.restype = ctypes.c_char_p
    native.fan_ext_cuda_launch_plan.argtypes = [number] * 3 + [ctypes.c_int] * 2 + [ctypes.c_bool] * 2 + [number]
    native.fan_ext_frame_attention.restype = ctypes.c_bool
    native.fan_ext_frame_attention.argtypes = (
        [ctypes.c_int] + [pointer] * 3 + [real] * 2 + [pointer] * 2 + [number] * 4 + [pointer] * 4
    )
    return native


@functools.cache
def load_operators() -> Path:
    """Register torch.ops.fan_ext; the library that has them."""
    import torch

    library = _find("_torch_ops")
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
