"""What was built, and what an incomplete installation says."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fan_ext


def test_build_info() -> None:
    info = fan_ext.build_info()
    assert info["version"] == importlib.metadata.version("fan_ext") == fan_ext.__version__
    assert info["cpu_in_use"] in info["cpu"]
    assert info["cuda"] is None or info["cuda"]["architectures"]


@pytest.fixture
def copy_of_package(tmp_path: Path) -> Path:
    """The Python files of fan_ext alone, in a folder of their own."""
    source = Path(fan_ext.__file__).parent
    shutil.copytree(source, tmp_path / "fan_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def run(folder: Path, code: str) -> str:
    # -S: without site-packages' .pth files, which would find the true package first.
    site = [p for p in sys.path if "site-packages" in p]
    path = os.pathsep.join([str(folder), *site])
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1, result
    return result.stderr.strip().splitlines()[-1]


def test_missing_native_code_says_what_to_do(copy_of_package: Path) -> None:
    message = run(copy_of_package, "import fan_ext; fan_ext.build_info()")
    assert "native module is missing" in message
    assert "pip install" in message
    message = run(copy_of_package, "import fan_ext; fan_ext.frame_attention")
    assert "torch operators (_torch_ops) are missing" in message
    assert "pip install" in message


def test_native_code_that_does_not_fit_says_what_to_do(copy_of_package: Path) -> None:
    (copy_of_package / "fan_ext" / "_torch_ops.so").write_bytes(b"not a library")
    message = run(copy_of_package, "import fan_ext; fan_ext.FrameAttention")
    assert "do not load with torch" in message
    assert "pip install" in message
