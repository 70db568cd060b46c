"""The extras of the package: what a part of it needs beyond what every installation has."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from fan_fer.base.errors import LibraryError

EXTRAS = {
    "train": (
        "lightning_fabric",
        "scipy",
        "sklearn",
        "tensorboard",
        *(("tomli",) if sys.version_info < (3, 11) else ()),
    ),
    "timm": ("timm",),
    "parquet": ("pyarrow",),
    "app": ("starlette", "uvicorn", "prometheus_client"),
    "serve": ("starlette", "uvicorn", "prometheus_client"),
    "ray": ("ray", "pandas", "pyarrow"),
    "export": ("onnx", "onnxscript"),
    "scrfd": ("onnxruntime",),
}


def need(extra: str, what: str) -> None:
    """Raises LibraryError where a library of the extra is not installed: ``what`` needs it, and how to get it."""
    for library in EXTRAS[extra]:
        if find_spec(library) is None:
            raise LibraryError(f"{what} needs {library}: pip install 'fan_ext[{extra}]'")


def load_pandas() -> Any:
    """Raises ImportError without pandas."""
    try:
        import pandas
    except ImportError:
        raise ImportError("to_pandas needs pandas: pip install pandas") from None
    return pandas
