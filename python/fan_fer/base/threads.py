"""Torch on one thread, without a change for the rest of the process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operators use one thread when they are called in the block, by this thread; other threads keep theirs.

    torch.set_num_threads would change the number for the whole process. OpenMP keeps it for each calling thread, and
    so can MKL, which must be told apart once torch.set_num_threads has been called.
    """
    before = torch.get_num_threads()  # asked first: torch sets the number itself when a thread first uses it
    openmp, mkl = _function("omp_set_num_threads"), _function("MKL_Set_Num_Threads_Local")
    openmp(1)
    mkl_before = mkl(1)
    try:
        yield
    finally:
        openmp(before)
        mkl(mkl_before)


@cache
def _function(name: str) -> Callable[[int], int]:
    """Of a library that torch is linked with; without effect where torch does without it."""
    try:
        function: Callable[[int], int] = getattr(ctypes.PyDLL(torch._C.__file__), name)
    except (OSError, AttributeError):
        return lambda count: 0
    return function
