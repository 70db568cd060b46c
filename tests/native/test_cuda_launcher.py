"""The launcher asks the CUDA runtime for what the plan says, on every device, and for nothing that would be refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

from native.cuda_kernels import CUDA, build_program


def test_launches_are_as_planned() -> None:
    program = build_program("launcher_check", [Path(__file__).with_name("launcher_check.cpp"), CUDA / "plan.cpp"])
    result = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
