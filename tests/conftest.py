"""What all tests have in common."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_compiler_cache() -> Iterator[None]:
    """torch's cache of compiled graphs does not know of which fan_ext's operators a graph was compiled with."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TORCHINDUCTOR_CACHE_DIR", folder)
        yield
