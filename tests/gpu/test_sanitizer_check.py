"""The script that runs compute-sanitizer, tried out without it: the calls on the CPU, and a tool that only pretends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu.sanitizer_check import SIZES
from operator_cases import DTYPES

import fan_ext

_SCRIPT = Path(__file__).with_name("sanitizer_check.py")


def _run(folder: Path, *arguments: str, tool: str | None) -> subprocess.CompletedProcess[str]:
    if tool is not None:
        program = folder / "compute-sanitizer"
        program.write_text(f"#!/bin/sh\n{tool}\n")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, str(_SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_calls_are_right(tmp_path: Path) -> None:
    result = _run(tmp_path, "--device", "cpu", "--calls-only", tool=None)
    assert (result.returncode, result.stderr) == (0, "")
    assert "112 calls on cpu are right" in result.stdout


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (9, 0), (10, 0)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_calls_have_every_regime(capability: tuple[int, int], dtype: torch.dtype, backward: bool) -> None:
    found = {fan_ext.cuda_launch_plan(2, *size, dtype, capability, backward)["regime"] for size in SIZES}
    assert found == {"warp per clip", "resident", "split"} | ({"cluster"} if capability >= (9, 0) else set())
    many = fan_ext.cuda_launch_plan(152, None, 512, dtype, capability, backward, total_frames=451)
    assert many["regime"] == "split"


@pytest.mark.parametrize(
    ("tool", "code", "message"),
    [
        ('echo "ran $*"', 0, ""),
        ('case "$*" in *racecheck*) exit 9;; esac', 1, "failed: racecheck (it reports errors)"),
        ('case "$*" in *initcheck*) exit 5;; esac', 1, "failed: initcheck (exit code 5)"),
    ],
)
def test_every_tool_runs_over_the_calls(tmp_path: Path, tool: str, code: int, message: str) -> None:
    result = _run(tmp_path, "--device", "cpu", tool=tool)
    assert result.returncode == code
    assert message in result.stderr
    if code == 0:
        lines = [line for line in result.stdout.splitlines() if line.startswith("ran ")]
        assert [line.split()[2] for line in lines] == ["memcheck", "racecheck", "initcheck", "synccheck"]
        assert all("--error-exitcode 9" in line and line.endswith("--calls-only --device cpu") for line in lines)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(_SCRIPT)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "sanitizer_check: no GPU that torch can use"
