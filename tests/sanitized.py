"""Runs the operator's tests on native code built with AddressSanitizer: `make native-asan`.

The sanitizer ends the process at the first access out of bounds, so that a run that gets through had none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# A package installed in editable mode is found before PYTHONPATH; here PYTHONPATH has the sanitized one.
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]

import fan_ext  # noqa: E402

for name in ("_torch_ops", "_native"):
    (library,) = Path(fan_ext.__file__).parent.glob(f"{name}*.so")
    if b"__asan_report" not in library.read_bytes():
        sys.exit(f"{library} is not built with AddressSanitizer")

tests = Path(__file__).parent / "fan_ext"
# Left out: the compiler's own tests, which spend minutes in code that is not ours, and the largest of the shapes, which
# take the same paths as the ones before them.
sys.exit(
    pytest.main(
        ["-q", "-p", "no:cacheprovider"]
        + [str(tests / f"test_{name}.py") for name in ("parity", "rules", "arguments", "numpy")]
        + ["-k", "not 2048 and not (1000 and 512) and not does_not_load_torch"]
    )
)
