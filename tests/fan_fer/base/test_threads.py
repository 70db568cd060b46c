"""Torch on one thread, in the calling thread and in the block alone."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from fan_fer.base.threads import one_thread

def elsewhere():  # in a thread that has not used torch before
    with ThreadPoolExecutor(1) as pool:
        count = pool.submit(torch.get_num_threads).result()
    time.sleep(0.1)  # the system sees it end a little later
    return count

def work():  # through oneDNN, torch and MKL
    x = torch.rand(1, 16, 300, 300)
    torch.nn.functional.conv2d(x, torch.rand(16, 16, 3, 3)).exp()
    x[0, 0] @ x[0, 1]

def system_threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

def check(count):
    info = torch.__config__.parallel_info()
    with one_thread():
        assert (torch.get_num_threads(), elsewhere()) == (1, count)
        before = system_threads()
        work()
        assert system_threads() <= before, "more than one was at work"
        with one_thread():
            pass
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), elsewhere()) == (count, count)
    try:
        with one_thread():
            1 / 0
    except ZeroDivisionError:
        assert torch.get_num_threads() == count
    assert torch.__config__.parallel_info() == info  # with MKL's number

check(torch.get_num_threads())  # MKL may choose fewer than OMP_NUM_THREADS
torch.set_num_threads(4)
check(4)
"""


def test_one_thread_changes_nothing_elsewhere() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
