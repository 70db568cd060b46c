"""The launcher asks the CUDA runtime for what it is told, and both it and the device's check explain errors."""

from __future__ import annotations

import subprocess
from pathlib import Path

from native.cuda_kernels import build_program


def test_launches_and_errors() -> None:
    program = build_program("launcher_check", [Path(__file__).with_name("launcher_check.cpp")])
    result = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
