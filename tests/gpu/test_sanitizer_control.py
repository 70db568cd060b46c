"""What is taken out of the operator for compute-sanitizer to notice, and the judgement of the tools; none is built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gpu import sanitizer_control
from gpu.sanitizer_control import CONTROLS, DIM, FRAMES, REPOSITORY

import fan_ext


def test_both_removals_are_in_the_copy(tmp_path: Path) -> None:
    source = sanitizer_control.copy_without(tmp_path)
    changed = []
    for path in (source / "csrc").rglob("*.*"):
        before = (REPOSITORY / path.relative_to(source)).read_text()
        if path.read_text() != before:
            changed.append(path.name)
            (control,) = (c for c in CONTROLS.values() if c.file == path.name)
            removed = sanitizer_control.find_removal(control).code
            assert path.read_text().count(removed) == before.count(removed) - 1
    assert sorted(changed) == sorted(control.file for control in CONTROLS.values())


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0), (10, 0)])
def test_the_call_runs_a_block_of_several_warps(capability: tuple[int, int]) -> None:
    """Else no warp would wait for another; and the clip is longer than what has a place in shared memory."""
    plan = fan_ext.cuda_launch_plan(1, FRAMES, DIM, "float32", capability)
    assert [kernel["name"] for kernel in plan["kernels"]] == ["forward_kernel"]
    assert plan["block"] > 32
    assert plan["clips_per_block"] == 1
    assert plan["rows_in_shared"] < 2**20


def _tool(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int) -> None:
    program = folder / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\necho '========= {says}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


_RACE = "Error: Race reported between Write access at fan::cuda::Vectors<float>::put(int) const+0x10 in vectors.cuh:164"
_BOUND = "Invalid __global__ read of size 16 bytes at fan::cuda::weigh<true, float>+0x10 in forward.cuh:160"


@pytest.mark.parametrize(
    ("name", "says", "code", "noticed"),
    [
        ("racecheck", _RACE, 9, True),
        ("memcheck", _BOUND, 9, True),
        # Right words that fail nothing; nothing to say; of another kernel; of something else.
        ("racecheck", _RACE + "\n========= RACECHECK SUMMARY: 0 hazards displayed", 0, False),
        ("memcheck", "ERROR SUMMARY: 0 errors", 0, False),
        ("memcheck", _BOUND.replace("forward.cuh", "other.cuh"), 9, False),
        ("racecheck", _RACE.replace("vectors.cuh", "other.cuh"), 9, False),
        ("racecheck", "Program hit cudaErrorInvalidValue in vectors.cuh:160", 9, False),
    ],
)
def test_a_tool_must_report_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str, code: int, noticed: bool
) -> None:
    _tool(tmp_path, monkeypatch, says, code)
    assert (sanitizer_control.check(name, tmp_path) is None) == noticed
