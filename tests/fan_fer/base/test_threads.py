"""Torch on one thread, in the calling thread and in the block alone."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from fan_fer.base.threads import one_thread

def elsewhere():  # in a thread that has not used torch before
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()

def heavy():
    x = torch.rand(1, 16, 300, 300)
    torch.nn.functional.conv2d(x, torch.rand(16, 16, 3, 3)).exp()
    x[0, 0] @ x[0, 1]

def natives():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

if "set" in sys.argv:
    torch.set_num_threads(3)
count = torch.get_num_threads()  # MKL may choose fewer than OMP_NUM_THREADS
before = natives()
with one_thread():
    assert (torch.get_num_threads(), elsewhere()) == (1, count)
    heavy()
    assert natives() == before, "more than one thread was at work"
    with one_thread():
        pass
    assert torch.get_num_threads() == 1
assert (torch.get_num_threads(), elsewhere()) == (count, count)
try:
    with one_thread():
        1 / 0
except ZeroDivisionError:
    assert torch.get_num_threads() == count
heavy()
assert natives() == before + count - 1 or not before, "as many as before are to work again"
"""


def test_one_thread_changes_nothing_elsewhere() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("MKL_NUM_THREADS", None)
    ends = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], env=environment, stderr=subprocess.PIPE, text=True
        )
        for arguments in ([], ["set"])  # as the process began, and after torch.set_num_threads
    ]
    assert [end.communicate()[1] for end in ends] == ["", ""]
    assert [end.returncode for end in ends] == [0, 0]
