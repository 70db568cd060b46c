"""The CUDA-on-CPU runner notices mistakes: kernels with one each fail and say what happened; without it they pass."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from native.cuda_kernels import ENVIRONMENT, ORDERS, REPOSITORY, build_program

_WHO = r"thread \d+ of block \d"
_PLACE = r"small_kernels\.cpp:\d+"
# Where threads read what is yet to come, who runs first decides which it is.
_RACE = rf"race: {_WHO} (reads|writes) shared memory at {_PLACE} where {_WHO} (wrote|read) at {_PLACE}"
_UNWRITTEN = rf"{_WHO} reads shared memory that nobody has written at {_PLACE}"
_NOT_ARRIVED = rf"{_WHO} reads shared memory at {_PLACE} where a copy, not waited for, wrote at {_PLACE}"
_MEET = rf"{_WHO} at {_PLACE} and {_WHO} at {_PLACE} meet at different places or with different masks"

# The mistakes of small_kernels.cpp, and what the runner says of each.
MISTAKES = {
    "barrier in a branch": rf"deadlock; thread 40 of block . and 23 more have ended; .* and 39 more wait at {_PLACE}",
    "two barriers instead of one": _MEET,
    "no barrier before reading": f"{_UNWRITTEN}|{_RACE}",
    "no barrier before writing again": _RACE,
    "shuffle for a warp barrier": _RACE,
    "two blocks write the same": f"race: .* writes global memory at {_PLACE} where a thread of another block wrote",
    "shuffle from outside the mask": rf"{_WHO} at {_PLACE} reads lane \d+, not in the mask",
    "mask without oneself": f"{_WHO} at {_PLACE} is not in the mask that it gives",
    "masks that differ": _MEET,
    "reads what the block before left": _UNWRITTEN,
    "reads beyond shared memory": f"heap-buffer-overflow.*READ of size 4.*thread 63 of block ., at or after {_PLACE}",
    "reads a pair off 8 bytes": f"thread 0 of block . uses a misaligned address at {_PLACE}",
    "waits for too few copies": f"{_NOT_ARRIVED}|{_RACE}",
    "reads the copy of another": f"{_UNWRITTEN}|{_NOT_ARRIVED}|{_RACE}",
    "ends before its copy": f"{_WHO} ended without waiting for its copies",
    "block barrier for a cluster barrier": f"{_UNWRITTEN}|{_RACE}",
    "reads a block that ended": f"heap-use-after-free.*READ of size 4.*{_WHO}, at or after {_PLACE}",
}


@pytest.fixture(scope="module")
def program() -> Path:
    return build_program("small_kernels", [REPOSITORY / "tests" / "native" / "small_kernels.cpp"])


def _run(program: Path, name: str, which: str, order: int, seed: int) -> subprocess.CompletedProcess[str]:
    cluster = 2 if re.search("cluster|a block that", name) else 1
    command = [str(x) for x in (program, name, which, order, seed, cluster)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=60)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_noticed(program: Path, name: str) -> None:
    results = [_run(program, name, "wrong", order, seed=order) for order in range(len(ORDERS))]
    failed = [result for result in results if result.returncode != 0]
    # Where all are in step, nobody reads late.
    assert len(failed) >= (3 if name == "reads a block that ended" else len(ORDERS))
    for result in failed:
        assert re.search(MISTAKES[name], result.stderr, re.DOTALL), result.stderr[:2000]


@pytest.mark.parametrize("name", MISTAKES)
def test_nothing_is_said_without_it(program: Path, name: str) -> None:
    for order in range(len(ORDERS)):
        result = _run(program, name, "right", order, seed=order)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr[:2000]
        assert [int(x) for x in result.stdout.split()] == list(range(1, 129))


def test_orders(program: Path) -> None:
    """Where two warps of 32 threads come to two places on either side of a barrier of the warp."""

    def log(order: str, seed: int = 0) -> list[int]:
        # Of the block that comes first.
        return [int(x) for x in _run(program, "none", "right", ORDERS.index(order), seed).stdout.split()][:128]

    lower, upper = list(range(32)), list(range(32, 64))
    assert log("ahead ascending") == [*lower, *lower, *upper, *upper]
    assert log("ahead descending") == [*upper[::-1], *upper[::-1], *lower[::-1], *lower[::-1]]
    assert log("steps ascending") == [*lower, *upper, *lower, *upper]
    for kind in ("ahead random", "steps random"):
        assert sorted(log(kind)) == sorted([*lower, *lower, *upper, *upper])
        assert log(kind, seed=0) != log(kind, seed=1)
        assert log(kind, seed=0) == log(kind, seed=0)
