"""The tests of this folder need a GPU: `make gpu-check`. Elsewhere they are skipped."""

from __future__ import annotations

import os

import pytest
import torch

# "cpu" tries the tests themselves out where there is no GPU.
DEVICE = os.environ.get("FAN_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "")


@pytest.fixture
def device() -> str:
    if not DEVICE:
        pytest.skip("needs a CUDA device (`make gpu-check`)")
    return DEVICE


@pytest.fixture
def cuda(device: str) -> str:
    if device != "cuda":
        pytest.skip("a CPU has none of it (`make gpu-check`)")
    return device
