"""The CUDA-on-CPU runner notices mistakes: kernels with one each fail and say what happened; without it they pass."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from native.cuda_kernels import ENVIRONMENT, ORDERS, REPOSITORY, build_program

_BLOCK = r"\d+ more at a barrier of the block, small_kernels.cpp:\d+"
_CLUSTER = r"\d+ more at a barrier of the cluster, small_kernels.cpp:\d+"
# Where threads read what is yet to come, who runs first decides which it is.
_UNWRITTEN_OR_RACE = r"that nobody has written|race in shared memory: .* (reads|writes) at \S+ what .* (wrote|read) at"
_NOT_ARRIVED = "shared memory at .* while an asynchronous copy to it has not been waited for"

# The kernels of small_kernels.cpp, and what the runner says of each.
MISTAKES = {
    "barrier_in_a_branch": f"deadlock.*: .*{_BLOCK}; .* 23 more ended",
    "two_barriers_instead_of_one": r"threads meet at different barriers: .* at small_kernels.cpp:\d+, .*cpp:\d+",
    "waits_for_each_other": "deadlock.*at a barrier of the block.*at a barrier of the warp",
    "no_barrier_before_reading": _UNWRITTEN_OR_RACE,
    "no_barrier_before_writing_again": r"race in shared memory: .* (reads|writes) at .* what .* (read|wrote) at",
    "two_write_the_same": r"race in shared memory: .* writes at .* what .* wrote at",
    "shuffle_for_a_warp_barrier": r"race in shared memory: .* reads at .* what .* wrote at",
    "warp_barrier_for_a_block_barrier": _UNWRITTEN_OR_RACE,
    "two_blocks_write_the_same": r"race in global memory: .* writes at .* what a thread of another block wrote at",
    "reads_what_another_block_writes": r"race in global memory: .* what .* wrote at",
    "shuffle_from_outside_the_mask": r"thread \d+ of block \d reads lane \d+ in a shuffle at .* takes no part in it",
    "mask_without_oneself": r"thread \d+ of block \d is not in the mask that it gives at small_kernels.cpp:\d+",
    "mask_with_a_lane_that_ended": "its mask names lane 31, which has ended|deadlock.*at a barrier of the warp.*ended",
    "masks_that_differ": r"meet with different masks, \w{8} and \w{8}",
    "reads_what_nobody_wrote": r"thread 5 of block \d reads shared memory at \S+:\d+ that nobody has written",
    "reads_what_the_block_before_left": r"of block 1 reads shared memory at .* that nobody has written",
    "reads_beyond_shared_memory": "AddressSanitizer: heap-buffer-overflow.*\nREAD of size 4",
    "writes_beyond_shared_memory": "AddressSanitizer: heap-buffer-overflow.*\nWRITE of size 4",
    "reads_beyond_global_memory": "AddressSanitizer: heap-buffer-overflow.*\nREAD of size 4",
    "writes_beyond_global_memory": "AddressSanitizer: heap-buffer-overflow.*\nWRITE of size 4",
    "reads_a_copy_without_waiting": f"reads {_NOT_ARRIVED}|{_UNWRITTEN_OR_RACE}",
    "waits_for_too_few_copies": f"reads {_NOT_ARRIVED}|{_UNWRITTEN_OR_RACE}",
    "reads_the_copy_of_another": f"reads {_NOT_ARRIVED}|{_UNWRITTEN_OR_RACE}",
    "copies_over_what_is_being_read": f"reads {_NOT_ARRIVED}|{_UNWRITTEN_OR_RACE}",
    "ends_before_its_copy": "ended without waiting for its asynchronous copies",
    "copy_off_16_bytes": "not aligned to",
    "reads_another_block_without_a_barrier": _UNWRITTEN_OR_RACE,
    "block_barrier_for_a_cluster_barrier": _UNWRITTEN_OR_RACE,
    "asks_for_a_block_that_ended": r"asks for the shared memory of block \d, which has ended",
    "reads_a_block_that_ended": "reads at .* the shared memory of a block that has ended",
    "one_block_misses_the_cluster_barrier": f"deadlock.*block 0 and {_CLUSTER}; .* of block 1 and 63 more ended",
    "one_thread_misses_the_cluster_barrier": f"deadlock.*{_CLUSTER}; thread 7 of block 0 ended",
    "one_block_waits_once_more": f"deadlock.*{_CLUSTER}; .* of block 1 and 63 more ended",
    "asks_for_a_block_beyond_the_cluster": "asks for block 2 of a cluster of 2",
}
# Mistakes that depend on which block is ahead: in some orders nothing happens.
_IN_SOME_ORDERS = {"asks_for_a_block_that_ended", "reads_a_block_that_ended", "reads_what_another_block_writes"}


@pytest.fixture(scope="module")
def program() -> Path:
    return build_program("small_kernels", [REPOSITORY / "tests" / "native" / "small_kernels.cpp"])


def _run(program: Path, name: str, which: str, order: int, seed: int, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), name, which, str(order), str(seed)]
    environment = {**os.environ, **ENVIRONMENT, **more}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


_TURNS = [(order, seed) for order in range(len(ORDERS)) for seed in (0, 1)]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_noticed(program: Path, name: str) -> None:
    results = [_run(program, name, "wrong", *turn) for turn in _TURNS]
    failed = [result for result in results if result.returncode != 0]
    assert len(failed) > 0 if name in _IN_SOME_ORDERS else len(failed) == len(results)
    for result in failed:
        assert re.search(MISTAKES[name], result.stderr), result.stderr[:2000]


@pytest.mark.parametrize("name", MISTAKES)
def test_nothing_is_said_without_it(program: Path, name: str) -> None:
    for turn in _TURNS:
        result = _run(program, name, "right", *turn)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr[:2000]
        assert [int(x) for x in result.stdout.split()] == list(range(1, 129))


def test_every_small_kernel_is_tried() -> None:
    source = (REPOSITORY / "tests" / "native" / "small_kernels.cpp").read_text()
    assert set(re.findall(r"^    (?:BLOCKS|CLUSTER)\((\w+)\)", source, re.MULTILINE)) == {*MISTAKES, "in_which_order"}


def test_orders(program: Path) -> None:
    """Where two warps of 32 threads come to two places on either side of a barrier of the warp."""

    def log(order: str, seed: int = 0) -> list[int]:
        # The kernel counts in a variable that all threads write.
        result = _run(program, "in_which_order", "right", ORDERS.index(order), seed, CUDA_ON_CPU_GLOBAL_RACES="ignored")
        assert result.returncode == 0, result.stderr
        return [int(x) for x in result.stdout.split()]

    lower, upper = list(range(32)), list(range(32, 64))
    assert log("ahead ascending") == [*lower, *lower, *upper, *upper]
    assert log("ahead descending") == [*upper[::-1], *upper[::-1], *lower[::-1], *lower[::-1]]
    assert log("steps ascending") == [*lower, *upper, *lower, *upper]
    for kind in ("ahead random", "steps random"):
        assert sorted(log(kind)) == sorted([*lower, *lower, *upper, *upper])
        assert log(kind, seed=0) != log(kind, seed=1)
        assert log(kind, seed=0) == log(kind, seed=0)
