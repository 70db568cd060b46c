"""The script that runs compute-sanitizer, tried out without it: the calls on the CPU, and a tool that only pretends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu.sanitizer_check import NARROW, SIZES, UNKNOWN
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
    assert "172 calls on cpu are right" in result.stdout


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (9, 0), (10, 0)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_calls_have_every_regime(capability: tuple[int, int], dtype: torch.dtype, backward: bool) -> None:
    def plan(frames: int | None, dim: int, **total: int) -> dict[str, Any]:
        return fan_ext.cuda_launch_plan(4, frames, dim, dtype, capability, backward, **total)

    # As many as there are for clips of whatever length.
    every = {
        plan(frames, dim)["regime"] for frames in (*range(1, 120), 500, 1000, 10_000) for dim in (31, 64, 512, 1024)
    }
    assert {plan(*size)["regime"] for size in SIZES} == every
    assert len({plan(*size)["regime"] for size in NARROW}) == len(NARROW)
    longest, dim = max(UNKNOWN)
    assert plan(None, dim, total_frames=longest * 3 // 2 + 1)["rows_in_shared"] < longest


_CLEAN = 'echo "ran $*"; case "$*" in *racecheck*) echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors)";;'
_CLEAN += ' *) echo "========= ERROR SUMMARY: 0 errors";; esac'


@pytest.mark.parametrize(
    ("tool", "code", "message"),
    [
        (_CLEAN, 0, ""),
        (f'{_CLEAN}; case "$*" in *racecheck*) exit 9;; esac', 1, "failed: racecheck (it reports errors)"),
        (f'{_CLEAN}; case "$*" in *initcheck*) exit 5;; esac', 1, "failed: initcheck (exit code 5)"),
        # A tool that has not looked at anything.
        (
            f'case "$*" in *memcheck*) exit 0;; esac; {_CLEAN}',
            1,
            "failed: memcheck (it does not say that",
        ),
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


def test_one_tool_may_be_asked_for(tmp_path: Path) -> None:
    result = _run(tmp_path, "--device", "cpu", "--tool", "synccheck", tool=_CLEAN)
    assert (result.returncode, result.stdout.count("ran --tool synccheck"), result.stdout.count("ran ")) == (0, 1, 1)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(_SCRIPT)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "sanitizer_check: no GPU that torch can use"
