from __future__ import annotations

import os
from pathlib import Path

import pytest
from native.cuda_kernels import REPOSITORY, build_runner


@pytest.fixture(scope="session")
def runner() -> Path:
    """The kernels of this repository, or of the altered copy that mutation_check.py names."""
    return build_runner(Path(os.environ.get("FAN_EXT_CUDA_SOURCE", REPOSITORY)))
